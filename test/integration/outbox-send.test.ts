import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Email } from '../../server/database/entities/journal.ts';
import { allowLinksTo } from '../../server/notify/links.ts';
import { queueEmail } from '../../server/notify/outbox.ts';
import { connectResend } from '../../server/notify/resend.ts';
import type { SendDeps } from '../../server/notify/send.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  type Answer,
  hangUp,
  json,
  type Provider,
  passTime,
  refusal,
  sendDue,
  startProvider,
} from '../support/mails.ts';

const HOUR_MS = 3_600_000;
const start = new Date('2026-05-01T00:00:00Z');
const to = 'ada@example.com';

let database: TestDatabase;
let db: Database;
let accountId: string;
let provider: Provider;
let now: Date;
let held: number[];
let logged: string[];

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-send-test' });
  accountId = (await db.transaction((tx) => createAccount(tx, { email: to, now: start }))).id;
  provider = await startProvider();
});

afterAll(async () => {
  provider?.server.closeAllConnections();
  provider?.server.close();
  await db?.close();
  await database?.drop();
});

beforeEach(async () => {
  await db.pool.query('delete from email');
  provider.requests.splice(0);
  now = start;
  held = [];
  logged = [];
});

afterEach(() => {
  expect(provider.answers.splice(0)).toEqual([]);
});

const taken = (id = 'mail-1'): Answer => json(200, { id });
const page =
  (status: number): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html' }).end('<html>Bad gateway');
const silence: Answer = () => undefined;

const sender = (timeoutMs: number) =>
  connectResend({ apiKey: 're_canary_key', baseUrl: provider.baseUrl, timeoutMs });

function deps(over: Partial<SendDeps> = {}): SendDeps {
  const note = (details: object, message: string) => void logged.push(JSON.stringify({ details, message }));
  return {
    db,
    resend: sender(250),
    from: 'Billing <billing@your.app>',
    context: { links: allowLinksTo(['https://pay.example']), billingUrl: null },
    pace: { turn: async () => undefined, hold: async (durationMs) => void held.push(durationMs) },
    clock: { now: () => now },
    log: { info: note, warn: note },
    ...over,
  };
}

async function queued(
  payUrl: string | null = 'https://pay.example/i/1',
  address = to,
  naturalKey = 'fact',
): Promise<string> {
  await db.transaction((tx) =>
    queueEmail(
      tx,
      {
        accountId,
        to: address,
        template: 'payment_action_required',
        data: { plan: null, begins: false, over: false, amountCents: 9_900, currency: 'usd', payUrl },
        naturalKey,
      },
      start,
    ),
  );
  return (await row()).id;
}

async function row(): Promise<Email> {
  return await db.orm.em.fork().findOneOrFail(Email, { naturalKey: 'fact' });
}

/** Sends what is due, and makes due again what has to wait; how long that is. */
async function run(over: Partial<SendDeps> = {}): Promise<number | null> {
  await sendDue(deps(over));
  const { rows } = await db.pool.query<{ s: number | null }>(
    'select round(extract(epoch from due_at - now()))::int as s from email',
  );
  await passTime(db);
  return rows[0]?.s ?? null;
}

test('a mail is handed over with the id of its row as the idempotency key', async () => {
  provider.answers.push(taken('mail-7'));
  const id = await queued();
  expect(await run()).toBeNull();
  expect(await row()).toMatchObject({
    ...{ state: 'sent', providerId: 'mail-7', attempts: 1, sentAt: now, error: null },
    ...{ dueAt: null, lease: null, leasedUntil: null },
  });
  expect(provider.requests).toHaveLength(1);
  expect(provider.requests[0]).toMatchObject({ path: '/emails', key: id });
  expect(JSON.parse(provider.requests[0]?.body ?? '')).toMatchObject({
    from: 'Billing <billing@your.app>',
    to,
    subject: 'Please confirm your payment of $99.00',
    text: expect.stringContaining('https://pay.example/i/1'),
    html: expect.stringContaining('href="https://pay.example/i/1"'),
  });
});

test('a mail that was sent is not sent again, though it be due', async () => {
  provider.answers.push(taken());
  await queued();
  await run();
  // As a version before this one leaves it, which knows nothing of when a mail is due.
  await db.pool.query("update email set due_at = now() - interval '1 second'");
  expect(await run()).toBeNull();
  expect(provider.requests).toHaveLength(1);
});

test('the start of the first attempt is on record before the provider hears of it', async () => {
  const seen: (Date | null | undefined)[] = [];
  provider.answers.push(async (response, request) => {
    seen.push((await row()).firstAttemptAt);
    taken()(response, request);
  });
  await queued();
  await run({ resend: sender(10_000) });
  expect(seen).toEqual([start]);
});

test('a link to where mails do not lead is left out', async () => {
  provider.answers.push(taken());
  await queued('https://evil.example/i/1');
  await run();
  expect(provider.requests[0]?.body).not.toContain('evil.example');
});

describe('when it is unclear whether the mail was taken', () => {
  test.each([
    ['the connection breaks', hangUp],
    ['no answer comes in time', silence],
    ['the provider fails', refusal(500, 'internal_server_error')],
    ['a gateway answers in its place', page(502)],
    ['a gateway gives up waiting', page(408)],
    ['the answer has no id', json(200, {})],
    ['the answer is no JSON', page(200)],
    ['the error is empty', json(503, null)],
    ['the error has no shape', json(400, { oops: true })],
    ['an attempt with this key is still under way', refusal(409, 'concurrent_idempotent_requests')],
  ])('because %s, the same bytes are sent again under the same key', async (_why, answer) => {
    provider.answers.push(answer, taken());
    await queued();
    expect(await run()).toBe(5);
    expect(await row()).toMatchObject({ state: 'pending', firstAttemptAt: start, attempts: 1, lease: null });
    now = new Date(start.getTime() + 5_000);
    expect(await run()).toBeNull();
    expect(await row()).toMatchObject({ state: 'sent', firstAttemptAt: start, attempts: 2 });
    expect(provider.requests[1]).toEqual(provider.requests[0]);
  });

  test('it is left alone until its pause is over', async () => {
    provider.answers.push(hangUp);
    await queued();
    await sendDue(deps());
    expect(await sendDue(deps())).toBe(0);
    expect(provider.requests).toHaveLength(1);
  });

  test('the pauses grow to half an hour', async () => {
    await queued();
    const pauses: (number | null)[] = [];
    for (let attempt = 0; attempt < 11; attempt += 1) {
      provider.answers.push(hangUp);
      pauses.push(await run());
    }
    expect(pauses.slice(0, 3)).toEqual([5, 10, 20]);
    expect(pauses.slice(-2)).toEqual([1_800, 1_800]);
  });

  test('it is still repeated 23 hours later', async () => {
    provider.answers.push(hangUp, taken());
    await queued();
    await run();
    now = new Date(start.getTime() + 23 * HOUR_MS);
    await run();
    expect(await row()).toMatchObject({ state: 'sent' });
  });

  test('it is parked for a person after that and never handed over again', async () => {
    provider.answers.push(hangUp);
    await queued();
    await run();
    now = new Date(start.getTime() + 23 * HOUR_MS + 1);
    expect(await run()).toBeNull();
    expect(await row()).toMatchObject({ state: 'parked', error: expect.stringContaining('23 hours') });
    await run();
    expect(provider.requests).toHaveLength(1);
  });

  test.each([
    ['its words are others by now', refusal(409, 'invalid_idempotent_request')],
    ['the sender is refused by now', refusal(403, 'validation_error')],
  ])('and %s, it is parked, and a person is told to look it up', async (_why, answer) => {
    provider.answers.push(hangUp, answer);
    await queued();
    await run();
    await run();
    expect(await row()).toMatchObject({
      state: 'parked',
      error: expect.stringMatching(/happened\. An earlier attempt may have sent it; look it up/),
    });
  });
});

describe('when the provider has too much to do', () => {
  test('the mail waits as long as it is told to, and so do the others for a while', async () => {
    provider.answers.push(refusal(429, 'rate_limit_exceeded', { 'retry-after': '7' }));
    await queued();
    expect(await run()).toBe(7);
    expect(held).toEqual([7_000]);
  });

  test('a quota that ends tomorrow does not hold up the other mails until then', async () => {
    provider.answers.push(refusal(429, 'daily_quota_exceeded', { 'retry-after': '40000' }));
    await queued();
    expect(await run()).toBe(40_000);
    expect(held).toEqual([10_000]);
  });

  test('being turned away does not start the 23 hours', async () => {
    provider.answers.push(refusal(429, 'rate_limit_exceeded'), taken());
    await queued();
    await run();
    expect(await row()).toMatchObject({ firstAttemptAt: null, batchId: null });
    now = new Date(start.getTime() + 24 * HOUR_MS);
    await run();
    expect(await row()).toMatchObject({ state: 'sent' });
  });

  test('being turned away after an unclear attempt leaves the 23 hours running', async () => {
    provider.answers.push(hangUp, refusal(429, 'rate_limit_exceeded'));
    const id = await queued();
    await run();
    await run();
    expect(await row()).toMatchObject({ firstAttemptAt: start, batchId: id });
  });

  test('a mail nobody took for three days is parked', async () => {
    await queued();
    now = new Date(start.getTime() + 72 * HOUR_MS + 1);
    await run();
    expect(await row()).toMatchObject({ state: 'parked', error: 'Not accepted for three days' });
    expect(provider.requests).toEqual([]);
  });
});

describe('a mail of a version before this one', () => {
  const old = () => db.pool.query('update email set alone = true');

  test('that may be sending it at the moment goes by itself under the key it sends it with', async () => {
    provider.answers.push(taken(), taken());
    const id = await queued();
    await queued('https://pay.example/i/2', to, 'fact:2');
    await old();
    await run();
    expect(provider.requests.map(({ path }) => path)).toEqual(['/emails', '/emails']);
    expect(provider.requests.map(({ key }) => key)).toContain(id);
  });

  test('that may have gone out is repeated under the key it had', async () => {
    provider.answers.push(taken());
    const id = await queued();
    await old();
    await db.pool.query('update email set attempts = 1, first_attempt_at = $1', [start]);
    await run();
    expect(provider.requests).toMatchObject([{ path: '/emails', key: id }]);
  });

  test('that began an attempt while we were turned away has its 23 hours left running', async () => {
    provider.answers.push(async (response, request) => {
      await db.pool.query('update email set attempts = attempts + 1');
      refusal(429, 'rate_limit_exceeded')(response, request);
    });
    await queued();
    await old();
    await run({ resend: sender(10_000) });
    expect(await row()).toMatchObject({ attempts: 2, firstAttemptAt: start });
  });

  test('that has sent it meanwhile keeps what it wrote', async () => {
    provider.answers.push(async (response, request) => {
      await db.pool.query("update email set state = 'sent', provider_id = 'theirs', sent_at = $1", [start]);
      taken('ours')(response, request);
    });
    await queued();
    await old();
    await run({ resend: sender(10_000) });
    expect(await row()).toMatchObject({ state: 'sent', providerId: 'theirs' });
  });
});

test.each([
  [422, 'validation_error'],
  [403, 'validation_error'],
  [409, 'invalid_idempotent_request'],
  [404, 'not_found'],
])('a refusal that repeating cannot cure (%i %s) parks the mail with its reason', async (status, name) => {
  provider.answers.push(refusal(status, name));
  await queued();
  expect(await run()).toBeNull();
  expect(await row()).toMatchObject({ state: 'parked', error: `${name} (${status}): ${name} happened` });
});

test.each([
  [401, 'missing_api_key'],
  [403, 'invalid_api_key'],
  [401, 'restricted_api_key'],
])('a key that the operator has to repair (%i %s) makes mails wait, not fail', async (status, name) => {
  provider.answers.push(refusal(status, name));
  await queued();
  expect(await run()).toBe(5);
  expect(await row()).toMatchObject({ state: 'pending', firstAttemptAt: null });
});

test('without a provider the mail is marked so and no longer pending', async () => {
  await queued();
  expect(await run({ resend: null })).toBeNull();
  expect(await row()).toMatchObject({ state: 'not_configured', attempts: 0, firstAttemptAt: null });
});

test.each(['a@b.test\r\nBcc: c@d.test', 'a@b.test,c@d.test', 'nobody', 'A <a@b.test>'])(
  'a mail to %j is parked and not sent',
  async (address) => {
    await queued(null, address);
    await run();
    expect(await row()).toMatchObject({ state: 'parked', error: 'The address is none' });
    expect(provider.requests).toEqual([]);
  },
);

test.each([
  ['template', 'no_such_mail'],
  ['data', { amountCents: 'many' }],
])('a row whose %s cannot be read is parked with the reason', async (column, value) => {
  const id = await queued();
  await db.transaction((tx) => tx.nativeUpdate(Email, { id }, { [column]: value }));
  await run();
  expect(await row()).toMatchObject({ state: 'parked', error: expect.stringContaining('Cannot be written') });
});

test('two workers at once hand a mail over once', async () => {
  provider.answers.push(taken());
  await queued();
  await Promise.all([run(), run()]);
  expect(await row()).toMatchObject({ state: 'sent', attempts: 1 });
  expect(provider.requests).toHaveLength(1);
});

test('the log names mails by id and repeats neither address, content, link nor key', async () => {
  provider.answers.push(hangUp, refusal(429, 'rate_limit_exceeded'), refusal(422, 'validation_error'));
  const id = await queued('https://pay.example/i/canary');
  for (let attempt = 0; attempt < 3; attempt += 1) await run();
  expect(logged).toHaveLength(3);
  for (const line of logged) {
    expect(line).toContain(id);
    for (const secret of [to, 'canary', '99.00', 'confirm']) expect(line).not.toContain(secret);
  }
});

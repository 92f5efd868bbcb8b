import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Email } from '../../server/database/entities/journal.ts';
import { allowLinksTo } from '../../server/notify/links.ts';
import { queueEmail } from '../../server/notify/outbox.ts';
import { connectResend } from '../../server/notify/resend.ts';
import { type SendDeps, sendEmail } from '../../server/notify/send.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

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
  await db.pool.query('delete from pgboss.job');
  await db.pool.query('delete from email');
  provider.requests.splice(0);
  now = start;
  held = [];
  logged = [];
});

afterEach(() => {
  expect(provider.answers.splice(0)).toEqual([]);
});

type Answer = (response: ServerResponse, request: IncomingMessage) => void;
type Provider = {
  server: Server;
  baseUrl: string;
  /** What to answer next, in turn. */
  answers: Answer[];
  requests: { key: string | undefined; body: string }[];
};

/** A stand-in for Resend on loopback: it keeps what it was sent and answers what it is told to. */
async function startProvider(): Promise<Provider> {
  const answers: Answer[] = [];
  const requests: Provider['requests'] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(Buffer.from(chunk));
    const key = request.headers['idempotency-key'];
    requests.push({
      key: typeof key === 'string' ? key : undefined,
      body: Buffer.concat(chunks).toString(),
    });
    const answer = answers.shift();
    if (answer) answer(response, request);
    else response.writeHead(500).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The provider has no port');
  return { server, baseUrl: `http://127.0.0.1:${address.port}`, answers, requests };
}

const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
const refusal = (statusCode: number, name: string, headers: Record<string, string> = {}): Answer =>
  json(statusCode, { statusCode, name, message: `${name} happened` }, headers);
const taken = (id = 'mail-1'): Answer => json(200, { id });
const page =
  (status: number): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html' }).end('<html>Bad gateway');
const hangUp: Answer = (_response, request) => request.socket.destroy();
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
    pace: { turn: async () => undefined, hold: (durationMs) => void held.push(durationMs) },
    clock: { now: () => now },
    log: { info: note, warn: note },
    ...over,
  };
}

async function queued(payUrl: string | null = 'https://pay.example/i/1', address = to): Promise<string> {
  await db.transaction((tx) =>
    queueEmail(
      tx,
      {
        accountId,
        to: address,
        template: 'payment_action_required',
        data: { plan: null, begins: false, over: false, amountCents: 9_900, currency: 'usd', payUrl },
        naturalKey: 'fact',
      },
      start,
    ),
  );
  await db.pool.query('delete from pgboss.job');
  return (await row()).id;
}

async function row(): Promise<Email> {
  return await db.orm.em.fork().findOneOrFail(Email, { naturalKey: 'fact' });
}

async function nextRuns(): Promise<number[]> {
  const { rows } = await db.pool.query<{ ms: number }>(
    `select (extract(epoch from start_after) * 1000)::float8 as ms from pgboss.job
      where name = 'send-email' order by start_after`,
  );
  return rows.map((job) => job.ms - now.getTime());
}

test('a mail is handed over with the id of its row as the idempotency key', async () => {
  provider.answers.push(taken('mail-7'));
  const id = await queued();
  expect(await sendEmail(deps(), id)).toBe('sent');
  expect(await row()).toMatchObject({
    state: 'sent',
    providerId: 'mail-7',
    attempts: 1,
    sentAt: now,
    error: null,
  });
  expect(provider.requests).toHaveLength(1);
  expect(provider.requests[0]?.key).toBe(id);
  expect(JSON.parse(provider.requests[0]?.body ?? '')).toMatchObject({
    from: 'Billing <billing@your.app>',
    to,
    subject: 'Please confirm your payment of $99.00',
    text: expect.stringContaining('https://pay.example/i/1'),
    html: expect.stringContaining('href="https://pay.example/i/1"'),
  });
  expect(await nextRuns()).toEqual([]);
});

test('a mail that was sent is not sent again', async () => {
  provider.answers.push(taken());
  const id = await queued();
  await sendEmail(deps(), id);
  expect(await sendEmail(deps(), id)).toBe('nothing_to_do');
  expect(provider.requests).toHaveLength(1);
});

test('a job without a mail is done', async () => {
  expect(await sendEmail(deps(), '01890a5d-ac96-774b-bcce-b302099a8057')).toBe('nothing_to_do');
});

test('the start of the first attempt is on record before the provider hears of it', async () => {
  const seen: (Date | null | undefined)[] = [];
  provider.answers.push(async (response, request) => {
    seen.push((await row()).firstAttemptAt);
    taken()(response, request);
  });
  await sendEmail(deps(), await queued());
  expect(seen).toEqual([start]);
});

test('a link to where mails do not lead is left out', async () => {
  provider.answers.push(taken());
  await sendEmail(deps(), await queued('https://evil.example/i/1'));
  expect(provider.requests[0]?.body).not.toContain('evil.example');
});

describe('when it is unclear whether the mail was taken', () => {
  test.each([
    ['the connection breaks', hangUp],
    ['no answer comes in time', silence],
    ['the provider fails', refusal(500, 'internal_server_error')],
    ['a gateway answers in its place', page(502)],
    ['the answer has no id', json(200, {})],
    ['the answer is no JSON', page(200)],
    ['the error is empty', json(503, null)],
    ['the error has no shape', json(400, { oops: true })],
    ['an attempt with this key is still under way', refusal(409, 'concurrent_idempotent_requests')],
  ])('because %s, the same bytes are sent again under the same key', async (_why, answer) => {
    provider.answers.push(answer, taken());
    const id = await queued();
    expect(await sendEmail(deps(), id)).toBe('later');
    expect(await row()).toMatchObject({ state: 'pending', firstAttemptAt: start, attempts: 1 });
    expect(await nextRuns()).toEqual([5_000]);
    now = new Date(start.getTime() + 5_000);
    expect(await sendEmail(deps(), id)).toBe('sent');
    expect(await row()).toMatchObject({ firstAttemptAt: start, attempts: 2 });
    expect(provider.requests[1]).toEqual(provider.requests[0]);
  });

  test('the pauses grow to half an hour', async () => {
    const id = await queued();
    const pauses: (number | undefined)[] = [];
    for (let attempt = 0; attempt < 11; attempt += 1) {
      provider.answers.push(hangUp);
      await sendEmail(deps(), id);
      pauses.push((await nextRuns())[0]);
      await db.pool.query('delete from pgboss.job');
    }
    expect(pauses.slice(0, 3)).toEqual([5_000, 10_000, 20_000]);
    expect(pauses.slice(-2)).toEqual([1_800_000, 1_800_000]);
  });

  test('it is still repeated 23 hours later', async () => {
    provider.answers.push(hangUp, taken());
    const id = await queued();
    await sendEmail(deps(), id);
    now = new Date(start.getTime() + 23 * HOUR_MS);
    expect(await sendEmail(deps(), id)).toBe('sent');
  });

  test('it is parked for a person after that and never handed over again', async () => {
    provider.answers.push(hangUp);
    const id = await queued();
    await sendEmail(deps(), id);
    now = new Date(start.getTime() + 23 * HOUR_MS + 1);
    expect(await sendEmail(deps(), id)).toBe('parked');
    expect(await row()).toMatchObject({ state: 'parked', error: expect.stringContaining('23 hours') });
    expect(await sendEmail(deps(), id)).toBe('nothing_to_do');
    expect(provider.requests).toHaveLength(1);
  });
});

describe('when the provider has too much to do', () => {
  test('the mail waits as long as it is told to, and so do the others for a while', async () => {
    provider.answers.push(refusal(429, 'rate_limit_exceeded', { 'retry-after': '7' }));
    expect(await sendEmail(deps(), await queued())).toBe('later');
    expect(await nextRuns()).toEqual([7_000]);
    expect(held).toEqual([7_000]);
  });

  test('a quota that ends tomorrow does not hold up the other mails until then', async () => {
    provider.answers.push(refusal(429, 'daily_quota_exceeded', { 'retry-after': '40000' }));
    await sendEmail(deps(), await queued());
    expect(await nextRuns()).toEqual([40_000_000]);
    expect(held).toEqual([10_000]);
  });

  test('being turned away does not start the 23 hours', async () => {
    provider.answers.push(refusal(429, 'rate_limit_exceeded'), taken());
    const id = await queued();
    await sendEmail(deps(), id);
    expect(await row()).toMatchObject({ firstAttemptAt: null });
    now = new Date(start.getTime() + 24 * HOUR_MS);
    expect(await sendEmail(deps(), id)).toBe('sent');
  });

  test('being turned away after an unclear attempt leaves the 23 hours running', async () => {
    provider.answers.push(hangUp, refusal(429, 'rate_limit_exceeded'));
    const id = await queued();
    await sendEmail(deps(), id);
    await sendEmail(deps(), id);
    expect(await row()).toMatchObject({ firstAttemptAt: start });
  });

  test('being turned away leaves the 23 hours of an attempt running that began meanwhile', async () => {
    const id = await queued();
    provider.answers.push(async (response, request) => {
      await sendEmail(deps(), id);
      refusal(429, 'rate_limit_exceeded')(response, request);
    }, hangUp);
    await sendEmail(deps({ resend: sender(10_000) }), id);
    expect(await row()).toMatchObject({ attempts: 2, firstAttemptAt: start });
  });

  test('a mail nobody took for three days is parked', async () => {
    const id = await queued();
    now = new Date(start.getTime() + 72 * HOUR_MS + 1);
    expect(await sendEmail(deps(), id)).toBe('parked');
    expect(provider.requests).toEqual([]);
  });
});

test.each([
  [422, 'validation_error'],
  [403, 'validation_error'],
  [409, 'invalid_idempotent_request'],
  [404, 'not_found'],
])('a refusal that repeating cannot cure (%i %s) parks the mail with its reason', async (status, name) => {
  provider.answers.push(refusal(status, name));
  expect(await sendEmail(deps(), await queued())).toBe('parked');
  expect(await row()).toMatchObject({ state: 'parked', error: `${name} (${status}): ${name} happened` });
  expect(await nextRuns()).toEqual([]);
});

test.each([
  [401, 'missing_api_key'],
  [403, 'invalid_api_key'],
  [401, 'restricted_api_key'],
])('a key that the operator has to repair (%i %s) makes mails wait, not fail', async (status, name) => {
  provider.answers.push(refusal(status, name));
  expect(await sendEmail(deps(), await queued())).toBe('later');
  expect(await row()).toMatchObject({ state: 'pending', firstAttemptAt: null });
});

test('without a provider the mail is marked so and no longer pending', async () => {
  expect(await sendEmail(deps({ resend: null }), await queued())).toBe('not_configured');
  expect(await row()).toMatchObject({ state: 'not_configured', attempts: 0, firstAttemptAt: null });
});

test.each(['a@b.test\r\nBcc: c@d.test', 'a@b.test,c@d.test', 'nobody', 'A <a@b.test>'])(
  'a mail to %j is parked and not sent',
  async (address) => {
    expect(await sendEmail(deps(), await queued(null, address))).toBe('parked');
    expect(provider.requests).toEqual([]);
  },
);

test.each([
  ['template', 'no_such_mail'],
  ['data', { amountCents: 'many' }],
])('a row whose %s cannot be read is parked with the reason', async (column, value) => {
  const id = await queued();
  await db.transaction((tx) => tx.nativeUpdate(Email, { id }, { [column]: value }));
  expect(await sendEmail(deps(), id)).toBe('parked');
  expect(await row()).toMatchObject({ error: expect.stringContaining('Cannot be written') });
});

test('two workers with the same mail hand over the same bytes under one key', async () => {
  provider.answers.push(taken(), taken());
  const id = await queued();
  const outcomes = await Promise.all([sendEmail(deps(), id), sendEmail(deps(), id)]);
  expect(outcomes).toContain('sent');
  expect(new Set(provider.requests.map(({ key, body }) => `${key} ${body}`)).size).toBe(1);
  provider.answers.splice(0);
});

test('the log names mails by id and repeats neither address, content, link nor key', async () => {
  provider.answers.push(hangUp, refusal(429, 'rate_limit_exceeded'), refusal(422, 'validation_error'));
  const id = await queued('https://pay.example/i/canary');
  for (let run = 0; run < 3; run += 1) await sendEmail(deps(), id);
  expect(logged).toHaveLength(3);
  for (const line of logged) {
    expect(line).toContain(id);
    for (const secret of [to, 'canary', '99.00', 'confirm']) expect(line).not.toContain(secret);
  }
});

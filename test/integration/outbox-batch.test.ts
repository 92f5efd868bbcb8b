import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import type { Email } from '../../server/database/entities/journal.ts';
import { type Batch, CLAIM, claimBatch } from '../../server/notify/due-mails.ts';
import { connectResend } from '../../server/notify/resend.ts';
import { type SendDeps, sendBatch } from '../../server/notify/send.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  type Answer,
  hangUp,
  json,
  mailRows,
  type Provider,
  passTime,
  queueMany,
  refusal,
  sendDue,
  startProvider,
} from '../support/mails.ts';
import { reached } from '../support/states.ts';

const HOUR_MS = 3_600_000;
const start = new Date('2026-05-01T00:00:00Z');

let database: TestDatabase;
let db: Database;
let accountId: string;
let provider: Provider;
let now: Date;
let logged: { message: string; [detail: string]: unknown }[];

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-batch-test' });
  accountId = (await db.transaction((tx) => createAccount(tx, { email: 'ada@example.com', now: start }))).id;
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
  logged = [];
});

afterEach(() => {
  expect(provider.answers.splice(0)).toEqual([]);
});

function deps(over: Partial<SendDeps> = {}): SendDeps {
  const note = (details: object, message: string) => void logged.push({ ...details, message });
  return {
    db,
    resend: connectResend({ apiKey: 're_batch_key', baseUrl: provider.baseUrl, timeoutMs: 5_000 }),
    from: 'Billing <billing@your.app>',
    context: { links: () => false, billingUrl: null },
    pace: { turn: async () => undefined, hold: async () => undefined },
    clock: { now: () => now },
    log: { info: note, warn: note },
    ...over,
  };
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const queue = (count: number) => queueMany(db, accountId, numbers(count), start);

/** Takes so many mails, with ids that say where each stood. */
const takes =
  (count: number): Answer =>
  (response, request) =>
    json(200, { data: numbers(count).map((number) => ({ id: `p${number}` })) })(response, request);
const takesOne = json(200, { id: 'p1' });

/** To whom each request was addressed, as numbers. */
const sentTo = (): number[][] =>
  provider.requests.map(({ body }) => {
    const parsed: { to: string } | { to: string }[] = JSON.parse(body);
    return [parsed].flat().map(({ to }) => Number(/\d+/.exec(to)?.[0]));
  });
const states = async (): Promise<string[]> => (await mailRows(db)).map(({ state }) => state);
const each = async <K extends keyof Email>(column: K): Promise<Email[K][]> =>
  (await mailRows(db)).map((mail) => mail[column]);

describe('mails that are due together', () => {
  test('go out in one request, by one key that is no mail’s, and each keeps its own id', async () => {
    await queue(3);
    provider.answers.push(takes(3));
    await sendDue(deps());
    const [batchId] = await each('batchId');
    expect(provider.requests).toMatchObject([{ path: '/emails/batch', key: batchId }]);
    expect(sentTo()).toEqual([[1, 2, 3]]);
    expect(await each('id')).not.toContain(batchId);
    for (const mail of await mailRows(db))
      expect(mail).toMatchObject({
        state: 'sent',
        batchId,
        sentAt: now,
        attempts: 1,
        dueAt: null,
        lease: null,
      });
    expect(await each('providerId')).toEqual(['p1', 'p2', 'p3']);
  });

  test('are a hundred in a request, the oldest first, and what is over goes next', async () => {
    await queue(201);
    provider.answers.push(takes(100), takes(100), takesOne);
    expect(await sendDue(deps())).toBe(3);
    expect(sentTo()).toEqual([numbers(100), numbers(100).map((number) => number + 100), [201]]);
  });

  test('have their batch on record before the provider hears of it', async () => {
    await queue(2);
    const seen: Partial<Email>[] = [];
    provider.answers.push(async (response, request) => {
      seen.push(...(await mailRows(db)));
      takes(2)(response, request);
    });
    await sendDue(deps());
    const key = provider.requests[0]?.key;
    expect(seen).toMatchObject([1, 2].map(() => ({ batchId: key, firstAttemptAt: start, state: 'pending' })));
  });

  test('of which one cannot be sent go without it', async () => {
    await queue(3);
    await db.pool.query("update email set to_address = 'nobody' where natural_key = 'fact:2'");
    provider.answers.push(takes(2));
    await sendDue(deps());
    expect(sentTo()).toEqual([[1, 3]]);
    expect(await states()).toEqual(['sent', 'parked', 'sent']);
    expect(await each('providerId')).toEqual(['p1', null, 'p2']);
  });

  test('of which one has waited for three days go without it', async () => {
    await queue(3);
    await db.pool.query(
      "update email set created_at = created_at - interval '3 days' where natural_key = 'fact:1'",
    );
    now = new Date(start.getTime() + 1_000);
    provider.answers.push(takes(2));
    await sendDue(deps());
    expect(await states()).toEqual(['parked', 'sent', 'sent']);
  });

  test('without a provider are all marked so', async () => {
    await queue(3);
    await sendDue(deps({ resend: null }));
    expect(await states()).toEqual(['not_configured', 'not_configured', 'not_configured']);
  });
});

describe('a batch that may have been taken', () => {
  test.each([
    ['the connection breaks', hangUp],
    ['the provider fails', refusal(500, 'internal_server_error')],
    ['there is an id too few', json(200, { data: [{ id: 'p1' }, { id: 'p2' }] })],
    ['there is no id', json(200, { data: [{}, {}, {}] })],
    ['it is still under way', refusal(409, 'concurrent_idempotent_requests')],
  ])(
    'because %s, is repeated byte for byte under its key, whatever else is due by then',
    async (_why, answer) => {
      await queue(3);
      provider.answers.push(answer);
      await sendDue(deps());
      expect(await states()).toEqual(['pending', 'pending', 'pending']);
      await queueMany(db, accountId, [4], start);
      await passTime(db);
      now = new Date(start.getTime() + 5_000);
      // The new one may come first or last; the three stay what they were.
      const taking: Answer = (response, request) =>
        (provider.requests.at(-1)?.path === '/emails' ? takesOne : takes(3))(response, request);
      provider.answers.push(taking, taking);
      await sendDue(deps());
      const [first, ...later] = provider.requests;
      expect(later.filter(({ path }) => path === '/emails/batch')).toEqual([first]);
      expect(later).toHaveLength(2);
      expect(await states()).toEqual(['sent', 'sent', 'sent', 'sent']);
      expect(await each('attempts')).toEqual([2, 2, 2, 1]);
      reached('a batch may have been taken, and others are due by then');
    },
  );

  test('waits for its pause as a whole', async () => {
    await queue(3);
    provider.answers.push(hangUp);
    await sendDue(deps());
    const { rows } = await db.pool.query<{ s: number }>(
      'select distinct round(extract(epoch from due_at - now()))::int as s from email',
    );
    expect(rows).toEqual([{ s: 5 }]);
    expect(await sendDue(deps())).toBe(0);
  });

  test('is repeated until 23 hours later, and parked whole after that', async () => {
    await queue(2);
    provider.answers.push(hangUp, hangUp);
    await sendDue(deps());
    await passTime(db);
    now = new Date(start.getTime() + 23 * HOUR_MS);
    await sendDue(deps());
    expect(provider.requests).toHaveLength(2);
    await passTime(db);
    now = new Date(now.getTime() + 1);
    await sendDue(deps());
    expect(await states()).toEqual(['parked', 'parked']);
    for (const error of await each('error')) expect(error).toContain('23 hours');
    expect(provider.requests).toHaveLength(2);
    reached('a batch is too old to be repeated');
  });

  test('and was turned away later keeps its batch and its 23 hours', async () => {
    await queue(2);
    provider.answers.push(hangUp, refusal(429, 'rate_limit_exceeded'));
    await sendDue(deps());
    await passTime(db);
    now = new Date(start.getTime() + HOUR_MS);
    await sendDue(deps());
    expect(await each('firstAttemptAt')).toEqual([start, start]);
    expect(await each('batchId')).toEqual([provider.requests[0]?.key, provider.requests[0]?.key]);
  });

  test('and whose words are others by now is parked whole, for a person to look up', async () => {
    await queue(2);
    provider.answers.push(hangUp, refusal(409, 'invalid_idempotent_request'));
    await sendDue(deps());
    await passTime(db);
    await sendDue(deps({ from: 'Others <others@your.app>' }));
    expect(await states()).toEqual(['parked', 'parked']);
    for (const error of await each('error')) expect(error).toMatch(/An earlier attempt may have sent it/);
    expect(provider.requests).toHaveLength(2);
    reached('a batch that may have been taken has other words by now');
  });

  test('and can no longer be written as it was is parked whole, and not sent in part', async () => {
    await queue(2);
    provider.answers.push(hangUp);
    await sendDue(deps());
    await passTime(db);
    await db.pool.query("update email set template = 'gone' where natural_key = 'fact:2'");
    await sendDue(deps());
    expect(await states()).toEqual(['parked', 'parked']);
    for (const error of await each('error')) expect(error).toMatch(/^Cannot be written.*An earlier attempt/);
    expect(provider.requests).toHaveLength(1);
  });

  test('and of which a person parked one is repeated as it was, and that one stays parked', async () => {
    await queue(3);
    provider.answers.push(hangUp, takes(3));
    await sendDue(deps());
    await db.pool.query("update email set state = 'parked', due_at = null where natural_key = 'fact:1'");
    await passTime(db);
    await sendDue(deps());
    expect(provider.requests[1]).toEqual(provider.requests[0]);
    expect(await states()).toEqual(['parked', 'sent', 'sent']);
    expect(await each('providerId')).toEqual([null, 'p2', 'p3']);
  });
});

describe('a batch that was turned away', () => {
  test('at its first attempt is free: the mails may go with others, under another key', async () => {
    await queue(2);
    provider.answers.push(refusal(429, 'rate_limit_exceeded'), takes(3));
    await sendDue(deps());
    expect(await each('batchId')).toEqual([null, null]);
    expect(await each('firstAttemptAt')).toEqual([null, null]);
    await queueMany(db, accountId, [3], start);
    await passTime(db);
    await sendDue(deps());
    expect(sentTo()).toEqual([
      [1, 2],
      [1, 2, 3],
    ]);
    expect(provider.requests[1]?.key).not.toBe(provider.requests[0]?.key);
    reached('a batch is turned away, and goes out with another mail');
  });

  test('for a quota that is too small for all of them is tried with fewer', async () => {
    await queue(4);
    const full = refusal(429, 'daily_quota_exceeded', { 'retry-after': '3600' });
    provider.answers.push(full, takes(2));
    await sendDue(deps());
    expect(sentTo()).toEqual([
      [1, 2, 3, 4],
      [1, 2],
    ]);
    expect(await states()).toEqual(['sent', 'sent', 'pending', 'pending']);
    expect(await each('batchId')).toMatchObject([expect.any(String), expect.any(String), null, null]);
  });
});

describe('a batch that was refused', () => {
  /** Refuses every request that has a bad mail in it, as strict validation does, and takes the others. */
  const judge =
    (bad: readonly number[], status = 422): Answer =>
    (response, request) => {
      const last = sentTo().at(-1) ?? [];
      const isBatch = provider.requests.at(-1)?.path === '/emails/batch';
      if (last.some((number) => bad.includes(number))) refusal(status, 'validation_error')(response, request);
      else (isBatch ? takes(last.length) : takesOne)(response, request);
    };

  test.each([
    ['the first', [1]],
    ['the last', [100]],
    ['one in the middle', [37]],
    ['three of them', [2, 50, 99]],
  ])('for %s costs that alone, and nothing is sent twice', async (_which, bad) => {
    await queue(100);
    for (let request = 0; request < 60; request += 1) provider.answers.push(judge(bad));
    await sendDue(deps());
    provider.answers.splice(0);
    const parked = (await mailRows(db)).flatMap(({ state, naturalKey }) =>
      state === 'parked' ? [Number(naturalKey.slice('fact:'.length))] : [],
    );
    expect(parked).toEqual(bad);
    reached('several mails of a batch are refused', bad.length > 1);
    expect((await states()).filter((state) => state === 'sent')).toHaveLength(100 - bad.length);
    const accepted = sentTo().filter((request) => !request.some((number) => bad.includes(number)));
    expect(accepted.flat().toSorted((a, b) => a - b)).toEqual(numbers(100).filter((n) => !bad.includes(n)));
    // Halving finds one among a hundred in two times seven more requests.
    expect(provider.requests.length).toBeLessThanOrEqual(1 + 14 * bad.length);
    expect(new Set(provider.requests.map(({ key }) => key)).size).toBe(provider.requests.length);
  });

  test('stays divided when its parts are turned away, and while others are due', async () => {
    await queue(4);
    provider.answers.push(judge([4]));
    const batch = await claimBatch(db);
    if (batch) await sendBatch(deps(), batch);
    const busy = refusal(429, 'rate_limit_exceeded');
    provider.answers.push(busy, busy);
    await sendDue(deps());
    await queueMany(db, accountId, [5, 6], start);
    await passTime(db);
    for (let request = 0; request < 5; request += 1) provider.answers.push(judge([4]));
    await sendDue(deps());
    expect(sentTo().slice(3).toSorted()).toEqual([[1, 2], [3], [3, 4], [4], [5, 6]]);
    expect(await states()).toEqual(['sent', 'sent', 'sent', 'parked', 'sent', 'sent']);
  });

  test('again after its process died over the answer is divided all the same', async () => {
    await queue(2);
    provider.answers.push(hangUp);
    await sendDue(deps());
    await passTime(db);
    provider.answers.push(judge([2]), judge([2]), judge([2]));
    await sendDue(deps());
    expect(await states()).toEqual(['sent', 'parked']);
  });

  test('for its sender is divided at the first attempt, and parked where an earlier one may have been taken', async () => {
    await queue(2);
    provider.answers.push(judge([2], 403), judge([2], 403), judge([2], 403));
    await sendDue(deps());
    expect(await states()).toEqual(['sent', 'parked']);

    await db.pool.query('delete from email');
    await queue(2);
    provider.answers.push(hangUp, judge([2], 403));
    await sendDue(deps());
    await passTime(db);
    await sendDue(deps());
    expect(await states()).toEqual(['parked', 'parked']);
  });

  test.each([[404], [405], [409]])('for the request itself (%i) is parked whole', async (status) => {
    await queue(2);
    provider.answers.push(refusal(status, status === 409 ? 'invalid_idempotent_request' : 'not_found'));
    await sendDue(deps());
    expect(await states()).toEqual(['parked', 'parked']);
    expect(provider.requests).toHaveLength(1);
  });
});

describe('two workers', () => {
  test('share what is due, and have no mail in common', async () => {
    await queue(150);
    const [one, other] = await Promise.all([claimBatch(db), claimBatch(db)]);
    const ids = [...(one?.mails ?? []), ...(other?.mails ?? [])].map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(await claimBatch(db)).toSatisfy((rest) => rest === null || ids.length + rest.mails.length === 150);
  });

  test('have a batch of an earlier attempt whole or not at all', async () => {
    await queue(40);
    provider.answers.push(hangUp);
    await sendDue(deps());
    for (let round = 0; round < 20; round += 1) {
      await passTime(db);
      const claims = await Promise.all(Array.from({ length: 6 }, () => claimBatch(db)));
      expect(claims.flatMap((claim) => (claim ? [claim.mails.length] : []))).toEqual([40]);
    }
  });

  test('of whom the first lost its lease while it sent: the second sends the same, and only it settles', async () => {
    await queue(2);
    let second: Promise<void> | undefined;
    provider.answers.push(async (response, request) => {
      await db.pool.query("update email set leased_until = now() - interval '1 second'");
      const batch = await claimBatch(db);
      if (batch) second = sendBatch(deps(), batch);
      await second;
      json(200, { data: [{ id: 'late1' }, { id: 'late2' }] })(response, request);
    }, takes(2));
    await sendDue(deps());
    expect(provider.requests[1]).toEqual(provider.requests[0]);
    expect(await each('providerId')).toEqual(['p1', 'p2']);
    expect(logged.map(({ message }) => message)).toEqual([
      'mails sent',
      'a batch was lost while it was under way; who has it now repeats it',
    ]);
    reached('the lease of mails is lost while they are sent');
  });

  test('of whom the first lost its lease while it sent: what it hears too late changes nothing', async () => {
    await queue(2);
    let second: Batch | null = null;
    provider.answers.push(async (response, request) => {
      await db.pool.query("update email set leased_until = now() - interval '1 second'");
      second = await claimBatch(db);
      refusal(422, 'validation_error')(response, request);
    }, takes(2));
    await sendDue(deps());
    const key = provider.requests[0]?.key;
    expect(await each('batchId')).toEqual([key, key]);
    expect(await each('firstAttemptAt')).toEqual([start, start]);
    expect(new Set(await each('lease')).size).toBe(1);
    if (second) await sendBatch(deps(), second);
    expect(provider.requests[1]).toEqual(provider.requests[0]);
    expect(await states()).toEqual(['sent', 'sent']);
  });

  test('of whom one lost its lease before it sent: it sends nothing', async () => {
    await queue(2);
    const batch = await claimBatch(db);
    await db.pool.query("update email set leased_until = now() - interval '1 second'");
    provider.answers.push(takes(2));
    await sendDue(deps());
    if (batch) await sendBatch(deps(), batch);
    expect(provider.requests).toHaveLength(1);
    expect(await each('attempts')).toEqual([1, 1]);
    reached('the lease of mails is lost before they are sent');
  });

  test('of whom one lost a single mail of its batch before it sent: it sends nothing, and writes nothing', async () => {
    await queue(3);
    const batch = await claimBatch(db);
    await db.pool.query("update email set lease = gen_random_uuid() where natural_key = 'fact:2'");
    if (batch) await sendBatch(deps(), batch);
    expect(provider.requests).toEqual([]);
    expect(await each('attempts')).toEqual([0, 0, 0]);
    expect(await each('batchId')).toEqual([null, null, null]);
    reached('a single mail of a batch is lost before it is sent');
  });

  test('of whom one must end gives its mails back at once', async () => {
    await queue(2);
    const batch = await claimBatch(db);
    const stop = new AbortController();
    const turn = async () => {
      stop.abort();
      stop.signal.throwIfAborted();
    };
    if (batch) await sendBatch(deps({ pace: { turn, hold: async () => undefined } }), batch, stop.signal);
    expect(provider.requests).toEqual([]);
    provider.answers.push(takes(2));
    await sendDue(deps());
    expect(await states()).toEqual(['sent', 'sent']);
  });

  test('of whom one fails by itself gives its mails back after a while, and says so', async () => {
    await queue(2);
    const broken = { turn: () => Promise.reject(new Error('no pace')), hold: async () => undefined };
    await expect(sendDue(deps({ pace: broken }))).rejects.toThrow('no pace');
    expect(await sendDue(deps())).toBe(0);
    await passTime(db);
    provider.answers.push(takes(2));
    await sendDue(deps());
    expect(await states()).toEqual(['sent', 'sent']);
  });
});

test('a claim finds what is due by an index, and a batch by its own', async () => {
  const client = await db.pool.connect();
  try {
    await client.query('set enable_seqscan = off');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(
      `explain ${CLAIM.replaceAll('$1', "'01890a5d-ac96-774b-bcce-b302099a8057'")}`,
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toContain('email_due');
    expect(plan).toContain('email_batch_id_index');
    expect(plan).not.toContain('Seq Scan');
  } finally {
    client.release(true);
  }
});

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { claimBatch } from '../../server/notify/due-mails.ts';
import type { EmailSender, SendResult } from '../../server/notify/resend.ts';
import { type SendDeps, sendBatch } from '../../server/notify/send.ts';
import { createSendingPace } from '../../server/notify/sending-pace.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { queueThousands } from '../support/mails.ts';

const now = new Date('2026-05-01T00:00:00Z');
/** So slow that nobody is let through by the passing of time while a test runs. */
const HOURLY = { name: 'resend', perSecond: 1 / 3_600 };

let database: TestDatabase;
let db: Database;
let other: Database;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'outbox-pace-test' });
  other = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'outbox-pace-test-2' });
});

beforeEach(async () => {
  await db.pool.query('delete from pace');
});

afterAll(async () => {
  await db?.close();
  await other?.close();
  await database?.drop();
});

const freeInMs = async (): Promise<number> => {
  const { rows } = await db.pool.query<{ ms: number }>(
    'select (extract(epoch from free_at - clock_timestamp()) * 1000)::float8 as ms from pace',
  );
  return rows[0]?.ms ?? Number.NaN;
};
/** What stands for the passing of the time until the next turn. */
const passTime = () => db.pool.query('update pace set free_at = clock_timestamp()');

/** Asks for turns and notes who is let through. */
function ask(letThrough: string[], from: Database, name: string, signal: AbortSignal): Promise<void> {
  return createSendingPace(from, HOURLY)
    .turn(signal)
    .then(
      () => void letThrough.push(name),
      () => undefined,
    );
}

test('two processes share it: whoever comes first goes, the other waits, by the clock of the database', async () => {
  const through: string[] = [];
  const stop = new AbortController();
  const asked = [ask(through, db, 'one', stop.signal), ask(through, other, 'other', stop.signal)];
  await Promise.race(asked);
  expect(through).toHaveLength(1);
  expect(await freeInMs()).toBeGreaterThan(3_590_000);
  const third = ask(through, other, 'third', stop.signal);
  await db.pool.query('select 1');
  expect(through).toHaveLength(1);
  stop.abort();
  await Promise.all([...asked, third]);
});

test('nobody waits without need, and one turn is for one caller', async () => {
  const through: string[] = [];
  const stop = new AbortController();
  const pace = createSendingPace(db, { name: 'resend', perSecond: 1_000 });
  for (let turn = 0; turn < 20; turn += 1) await pace.turn();
  await db.pool.query('delete from pace');
  const asked = [db, other, db, other].map((from, index) => ask(through, from, String(index), stop.signal));
  await Promise.race(asked);
  // Each has asked by now, and been told how long to wait.
  await Promise.all([db.pool.query('select 1'), other.pool.query('select 1')]);
  expect(through).toHaveLength(1);
  stop.abort();
  await Promise.all(asked);
});

test('a tenth is left unused, because what leaves evenly does not arrive evenly', async () => {
  const before = await db.pool.query<{ at: Date }>('select clock_timestamp() as at');
  await createSendingPace(db, { name: 'resend', perSecond: 2 }).turn();
  // 550 ms after its turn, which was somewhen between the two looks at a clock that may be set meanwhile: not 500, not 600.
  const { rows } = await db.pool.query<{ ms: number }>(
    'select (extract(epoch from free_at - $1::timestamptz) * 1000)::float8 as ms from pace',
    [before.rows[0]?.at],
  );
  expect(rows[0]?.ms).toBeGreaterThan(525);
  expect(await freeInMs()).toBeLessThan(575);
});

test('being held is for all processes, also for what waits already, and a shorter hold does not end a longer', async () => {
  const stop = new AbortController();
  const fast = { name: 'resend', perSecond: 1_000 };
  await createSendingPace(db, fast).hold(3_000_000);
  await createSendingPace(other, fast).hold(1_000);
  expect(await freeInMs()).toBeGreaterThan(2_990_000);
  let through = false;
  const waiting = createSendingPace(other, fast)
    .turn(stop.signal)
    .then(
      () => (through = true),
      () => undefined,
    );
  await db.pool.query('select 1');
  expect(through).toBe(false);
  await passTime();
  await createSendingPace(db, fast).turn();
  stop.abort();
  await waiting;
});

test('who must end while it waits ends, and those behind it are not held up', async () => {
  const pace = createSendingPace(db, HOURLY);
  await pace.turn();
  const first = new AbortController();
  const second = new AbortController();
  const [one, two] = [pace.turn(first.signal), pace.turn(second.signal)];
  first.abort();
  await expect(one).rejects.toThrow();
  second.abort();
  await expect(two).rejects.toThrow();
});

test('10,000 mails leave in a hundred requests, each once: at two a second in less than a minute', async () => {
  const account = await db.transaction((tx) => createAccount(tx, { email: 'ada@example.com', now }));
  await queueThousands(db, account.id, 10_000, now);
  const sent = new Map<string, number>();
  let requests = 0;
  const sendAll = async (mails: readonly { to: string }[]): Promise<SendResult> => {
    requests += 1;
    for (const { to } of mails) sent.set(to, (sent.get(to) ?? 0) + 1);
    return { kind: 'accepted', providerIds: mails.map(({ to }) => `p-${to}`) };
  };
  const resend: EmailSender = { send: (mail) => sendAll([mail]), sendBatch: sendAll };
  let turns = 0;
  const turn = async () => {
    turns += 1;
  };
  const deps = (from: Database): SendDeps => ({
    ...{ db: from, resend, from: 'Billing <billing@your.app>', clock: { now: () => now } },
    context: { links: () => false, billingUrl: null },
    pace: { turn, hold: async () => undefined },
    log: { info: () => undefined, warn: () => undefined },
  });
  const worker = async (from: Database): Promise<void> => {
    for (let batch = await claimBatch(from); batch !== null; batch = await claimBatch(from))
      await sendBatch(deps(from), batch);
  };
  await Promise.all([worker(db), worker(other)]);
  expect(sent.size).toBe(10_000);
  expect(new Set(sent.values())).toEqual(new Set([1]));
  // Two workers may each end with a batch that is not full.
  expect(requests).toBeLessThanOrEqual(102);
  expect(turns).toBe(requests);
  const { rows } = await db.pool.query<{ state: string; n: number }>(
    `select state, count(*)::int as n, count(*) filter (where provider_id = 'p-' || to_address)::int as own
       from email group by 1`,
  );
  expect(rows).toEqual([{ state: 'sent', n: 10_000, own: 10_000 }]);
}, 180_000);

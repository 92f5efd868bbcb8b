import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { watchDue } from '../../server/database/due.ts';
import { startMailer } from '../../server/notify/mailer.ts';
import type { EmailSender, OutgoingEmail, SendResult } from '../../server/notify/resend.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { mailRows, queueMany } from '../support/mails.ts';
import { untilTrue } from '../support/service.ts';

const clock = { now: () => new Date() };

let database: TestDatabase;
let db: Database;
let accountId: string;
const open: { close(): Promise<unknown> }[] = [];
const logged: string[] = [];
const note = (details: object, message: string) =>
  void logged.push(`${message} ${'err' in details ? String(details.err) : ''}`.trim());
const log = { info: note, warn: note, error: note };

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-mailer-test' });
  const now = new Date();
  accountId = (await db.transaction((tx) => createAccount(tx, { email: 'ada@example.com', now }))).id;
});

beforeEach(async () => {
  await db.pool.query('delete from email');
  logged.splice(0);
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

/** A provider that answers when it is told to. */
function provider() {
  const requests: { key: string; mails: readonly OutgoingEmail[]; answer: (result?: SendResult) => void }[] =
    [];
  const take = (mails: readonly OutgoingEmail[], key: string): Promise<SendResult> => {
    const { promise, resolve } = Promise.withResolvers<SendResult>();
    const accepted: SendResult = { kind: 'accepted', providerIds: mails.map(({ to }) => `${key} ${to}`) };
    requests.push({ key, mails, answer: (result = accepted) => resolve(result) });
    return promise;
  };
  const sender: EmailSender = { send: (mail, key) => take([mail], key), sendBatch: take };
  return { sender, requests };
}

/** A worker process as far as mails go. */
function startWorker(resend: EmailSender) {
  const mailer = startMailer({
    ...{ db, resend, clock, log, from: 'Billing <billing@your.app>' },
    context: { links: () => false, billingUrl: null },
    pace: { turn: async () => undefined, hold: async () => undefined },
  });
  const watch = watchDue({ db, clock, log }, { email: mailer.wake });
  open.push(watch, mailer);
  return mailer;
}

const queue = (numbers: readonly number[]) => queueMany(db, accountId, numbers, new Date());

test('a mail is sent as soon as its transaction has committed, by one request', async () => {
  const { sender, requests } = provider();
  startWorker(sender);
  await queue([1]);
  await untilTrue(() => requests.length === 1);
  requests[0]?.answer();
  await untilTrue(async () => (await mailRows(db))[0]?.state === 'sent');
  expect(logged).toEqual(['mails sent']);
});

test('what a refusal divides is sent at once, not at the next look', async () => {
  const { sender, requests } = provider();
  await queue([1, 2, 3, 4]);
  startWorker(sender);
  await untilTrue(() => requests.length === 1);
  requests[0]?.answer({ kind: 'refused', status: 422, code: 'validation_error', reason: 'one is bad' });
  await untilTrue(() => requests.length === 3);
  expect(requests.slice(1).map(({ mails }) => mails.length)).toEqual([2, 2]);
  for (const { answer } of requests) answer();
  await untilTrue(async () => (await mailRows(db)).every(({ state }) => state === 'sent'));
});

test('a batch that takes its time stays with whoever sends it, for many leases', async () => {
  const { sender, requests } = provider();
  startWorker(sender);
  await queue([1, 2]);
  await untilTrue(() => requests.length > 0);
  startWorker(sender);
  const until = async () => {
    const { rows } = await db.pool.query<{ ms: number }>(
      'select (extract(epoch from max(leased_until)) * 1000)::float8 as ms from email',
    );
    return rows[0]?.ms ?? 0;
  };
  const began = await until();
  await untilTrue(async () => (await until()) > began + 2_600);
  const before = requests.length;
  for (const { answer } of requests) answer();
  await untilTrue(async () => (await mailRows(db)).every(({ state }) => state === 'sent'));
  expect(requests).toHaveLength(before);
  expect(requests.flatMap(({ mails }) => mails.map(({ to }) => to)).toSorted()).toEqual([
    'n1@example.com',
    'n2@example.com',
  ]);
});

test('what a worker that died was sending is sent again by another, the same under the same key', async () => {
  const dead = provider();
  await queue([1, 2, 3]);
  const first = startWorker(dead.sender);
  await untilTrue(() => dead.requests.flatMap(({ mails }) => mails).length === 3);
  // As if killed: its leases are renewed no more.
  await db.pool.query(
    "update email set lease = gen_random_uuid(), leased_until = now() - interval '1 second'",
  );
  const { sender, requests } = provider();
  startWorker(sender);
  await untilTrue(() => {
    for (const { answer } of requests) answer();
    return requests.length === dead.requests.length;
  });
  const told = (list: typeof requests) =>
    list.map(({ key, mails }) => JSON.stringify([key, mails])).toSorted();
  expect(told(requests)).toEqual(told(dead.requests));
  await untilTrue(async () => (await mailRows(db)).every(({ state }) => state === 'sent'));
  for (const { answer } of dead.requests) answer();
  await first.close();
  expect((await mailRows(db)).every(({ attempts }) => attempts === 2)).toBe(true);
});

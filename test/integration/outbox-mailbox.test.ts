import Fastify, { type FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { mailbox } from '../../server/local-stripe/mailbox.ts';
import { failNextMails, listMails, MAIL_FAULTS, type MailFault } from '../../server/local-stripe/mails.ts';
import { openWorld } from '../../server/local-stripe/open-world.ts';
import type { World } from '../../server/local-stripe/world.ts';
import { connectResend } from '../../server/notify/resend.ts';
import type { SendDeps } from '../../server/notify/send.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { mailRows, passTime, queueMany, queueThousands, sendDue } from '../support/mails.ts';
import { reached } from '../support/states.ts';

const PER_SECOND = 2;

let database: TestDatabase;
let db: Database;
let world: World;
let app: FastifyInstance;
let baseUrl: string;
let nowMs: number;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-mailbox-test' });
});

beforeEach(async () => {
  await app?.close();
  world?.close();
  await db.pool.query('truncate email');
  nowMs = Date.UTC(2026, 4, 1);
  world = openWorld({ path: ':memory:', clock: () => nowMs });
  app = Fastify();
  await app.register(mailbox, { world, clock: () => nowMs, requestsPerSecond: PER_SECOND });
  baseUrl = await app.listen({ port: 0, host: '127.0.0.1' });
});

afterAll(async () => {
  await app?.close();
  world?.close();
  await db?.close();
  await database?.drop();
});

const deps = (): SendDeps => ({
  db,
  resend: connectResend({ apiKey: 're_test_1', baseUrl, timeoutMs: 5_000 }),
  from: 'Billing <billing@your.app>',
  context: { links: () => false, billingUrl: null },
  // Without a pace: all of them at once, which is what the limit is there for.
  pace: { turn: async () => undefined, hold: async () => undefined },
  clock: { now: () => new Date(nowMs) },
  log: { info: () => undefined, warn: () => undefined },
});

let accounts = 0;
async function newAccount(): Promise<string> {
  accounts += 1;
  const [email, now] = [`outbox-${accounts}@example.com`, new Date(nowMs)];
  return (await db.transaction((tx) => createAccount(tx, { email, now }))).id;
}
const queue = async (numbers: readonly number[]): Promise<void> =>
  queueMany(db, await newAccount(), numbers, new Date(nowMs));

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

/** Workers, two of them, look again every second until nothing is pending; how many seconds that took. */
async function work(resend = deps().resend): Promise<number> {
  for (let seconds = 0; seconds < 60; seconds += 1) {
    if (!(await mailRows(db)).some(({ state }) => state === 'pending')) return seconds;
    await Promise.all([sendDue({ ...deps(), resend }), sendDue({ ...deps(), resend })]);
    await passTime(db);
    nowMs += 1_000;
  }
  throw new Error('still pending after a minute');
}

async function expectEachOnce(count: number): Promise<void> {
  expect(
    listMails(world)
      .map((mail) => mail.to[0])
      .toSorted(),
  ).toEqual(
    upTo(count)
      .map((number) => `n${number}@example.com`)
      .toSorted(),
  );
  const byId = new Map(listMails(world).map((mail) => [mail.id, mail.to[0]]));
  for (const row of await mailRows(db)) {
    expect(row.state).toBe('sent');
    expect(byId.get(row.providerId ?? ''), 'each has the id of its own mail').toBe(row.toAddress);
  }
}

test.each(MAIL_FAULTS)(
  '250 mails with every third request %s: none lost, none sent twice',
  async (kind) => {
    // At once, because there are many: one by one they take longer than the sending.
    await queueThousands(db, await newAccount(), 250, new Date(nowMs));
    for (let round = 0; round < 3; round += 1) {
      failNextMails(world, kind satisfies MailFault, 1);
      await Promise.all([sendDue(deps()), sendDue(deps())]);
      await passTime(db);
      nowMs += 1_000;
    }
    failNextMails(world, kind, 0);
    await work();
    await expectEachOnce(250);
    // Each mail is composed at each try: seconds of processor time, and many times that on a busy machine.
  },
  120_000,
);

test('mails that come one by one, with answers lost after they were taken: none lost, none sent twice', async () => {
  failNextMails(world, 'timeout_after', 3);
  for (const number of upTo(6)) {
    await queue([number]);
    await sendDue(deps());
    nowMs += 1_000;
  }
  await work();
  await expectEachOnce(6);
});

test('a mail that the provider does not take costs that mail alone', async () => {
  const { resend } = deps();
  if (resend === null) throw new Error('no provider');
  /** As for an address that is one to us and none to Resend. */
  const mangled = <M extends { to: string }>(mail: M): M =>
    mail.to === 'n7@example.com' ? { ...mail, to: 'n7' } : mail;
  const picky: SendDeps['resend'] = {
    send: (mail, key) => resend.send(mangled(mail), key),
    sendBatch: (mails, key) => resend.sendBatch(mails.map(mangled), key),
  };
  await queue(upTo(120));
  await work(picky);
  const parked = (await mailRows(db)).filter(({ state }) => state === 'parked');
  expect(parked.map(({ naturalKey }) => naturalKey)).toEqual(['fact:7']);
  expect(parked[0]?.error).toContain('Invalid `to` field');
  expect(new Set(listMails(world).map(({ to }) => to[0])).size).toBe(119);
  reached('one mail of a batch is refused');
  expect(listMails(world)).toHaveLength(119);
});

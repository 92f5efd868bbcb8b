import Fastify, { type FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Email } from '../../server/database/entities/journal.ts';
import { queueEmail } from '../../server/notify/outbox.ts';
import { connectResend } from '../../server/notify/resend.ts';
import { type SendDeps, sendEmail } from '../../server/notify/send.ts';
import { mailbox } from '../../server/sandbox/mailbox.ts';
import { failNextMails, listMails } from '../../server/sandbox/mails.ts';
import { openWorld } from '../../server/sandbox/open-world.ts';
import type { World } from '../../server/sandbox/world.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const MAILS = 12;
const PER_SECOND = 2;

let database: TestDatabase;
let db: Database;
let world: World;
let app: FastifyInstance;
let baseUrl: string;
let nowMs = Date.UTC(2026, 4, 1);

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-mailbox-test' });
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
  pace: { turn: async () => undefined, hold: () => undefined },
  clock: { now: () => new Date(nowMs) },
  log: { info: () => undefined, warn: () => undefined },
});

async function queueAll(): Promise<void> {
  const now = new Date(nowMs);
  const account = await db.transaction((tx) => createAccount(tx, { email: 'ada@example.com', now }));
  const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;
  for (let number = 1; number <= MAILS; number += 1) {
    const mail = { accountId: account.id, to: account.email, naturalKey: `fact:${number}` };
    await db.transaction((tx) =>
      queueEmail(tx, { ...mail, template: 'subscription_resumed', data: { plan, next: null } }, now),
    );
  }
}

test('a burst over the limit, with answers lost after mails were taken, loses none and sends none twice', async () => {
  await queueAll();
  failNextMails(world, 'timeout_after', 3);
  let rounds = 0;
  for (; rounds < 50; rounds += 1) {
    const pending = await db.orm.em.fork().find(Email, { state: 'pending' });
    if (pending.length === 0) break;
    // Every mail by two workers, as after a crash that gave a job to a second one.
    await Promise.all([...pending, ...pending].map((email) => sendEmail(deps(), email.id)));
    nowMs += 1_000;
  }
  expect(rounds).toBeGreaterThan(MAILS / PER_SECOND / 2);
  expect(await db.orm.em.fork().count(Email, { state: 'sent' })).toBe(MAILS);
  expect(listMails(world)).toHaveLength(MAILS);
  const sent = await db.orm.em.fork().find(Email, {});
  const kept = listMails(world).map((mail) => mail.id);
  expect(sent.map((email) => email.providerId).sort()).toEqual(kept.sort());
});

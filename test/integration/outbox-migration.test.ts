import Fastify from 'fastify';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { migrate } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { mailbox } from '../../server/local-stripe/mailbox.ts';
import { listMails } from '../../server/local-stripe/mails.ts';
import { openWorld } from '../../server/local-stripe/open-world.ts';
import { renderEmail } from '../../server/notify/render.ts';
import { connectResend } from '../../server/notify/resend.ts';
import type { SendDeps } from '../../server/notify/send.ts';
import { createTestDatabase } from '../support/database.ts';
import { sendDue } from '../support/mails.ts';

/*
 * A deployment of the version whose mails were jobs, with work under way: what it did is written here as it did it,
 * by its own statements and requests, and then the version that is checked out takes over.
 */

const HOUR_MS = 3_600_000;
const now = new Date('2026-05-10T12:00:00Z');
const ago = (ms: number) => new Date(now.getTime() - ms);
const FROM = 'Billing <billing@your.app>';
const CONTEXT = { links: () => false, billingUrl: null };
const DATA = { plan: { tier: 'api_builder', billingPeriod: 'monthly' }, next: null };

const world = openWorld({ path: ':memory:', clock: () => now.getTime() });
const app = Fastify();
let db: Database;
let resend: ReturnType<typeof connectResend>;
const accountId = uuidv7(now);
const close: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const database = await createTestDatabase('template0');
  db = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'outbox-migration' });
  close.push(
    () => app.close(),
    async () => world.close(),
    () => db.close(),
    () => database.drop(),
  );
  await app.register(mailbox, { world, clock: () => now.getTime(), requestsPerSecond: 1_000 });
  const baseUrl = await app.listen({ port: 0, host: '127.0.0.1' });
  resend = connectResend({ apiKey: 're_test_1', baseUrl, timeoutMs: 5_000 });
});

afterAll(async () => {
  for (const one of close) await one();
});

type Before = { state?: string; attempts?: number; firstAttemptAt?: Date | null; createdAt?: Date };

/** As the version before inserts a mail, and leaves it. */
async function insert(name: string, before: Before = {}): Promise<string> {
  const id = uuidv7(now);
  const { state = 'pending', attempts = 0, firstAttemptAt = null, createdAt = ago(HOUR_MS) } = before;
  await db.pool.query(
    `insert into email (id, account_id, natural_key, template, to_address, data, state, attempts, first_attempt_at,
       created_at) values ($1, $2, $3, 'subscription_resumed', $3 || '@example.com', $4, $5, $6, $7, $8)`,
    [id, accountId, name, DATA, state, attempts, firstAttemptAt, createdAt],
  );
  return id;
}

/** As the version before hands a mail over: by itself, under the id of its row. */
async function theirs(id: string, name: string): Promise<void> {
  const rendered = await renderEmail('subscription_resumed', DATA, CONTEXT);
  const result = await resend.send({ from: FROM, to: `${name}@example.com`, ...rendered }, id);
  expect(result.kind).toBe('accepted');
}

const deps = (): SendDeps => ({
  ...{ db, resend, from: FROM, context: CONTEXT, clock: { now: () => now } },
  pace: { turn: async () => undefined, hold: async () => undefined },
  log: { info: () => undefined, warn: () => undefined },
});

it('sends what the version before left each once, whatever became of it, while that version still runs', async () => {
  await db.orm.migrator.up({ to: '0010-stripe-email' });
  await db.pool.query('insert into account (id, email, created_at) values ($1, $2, $3)', [
    accountId,
    'ada@example.com',
    ago(HOUR_MS),
  ]);
  for (const number of [1, 2, 3]) await insert(`waiting${number}`);
  const taken = await insert('taken', { attempts: 1, firstAttemptAt: ago(HOUR_MS) });
  await theirs(taken, 'taken');
  await insert('nottaken', { attempts: 1, firstAttemptAt: ago(HOUR_MS) });
  await insert('long', { attempts: 9, firstAttemptAt: ago(24 * HOUR_MS), createdAt: ago(25 * HOUR_MS) });
  await insert('sent', { state: 'sent' });
  await insert('parked', { state: 'parked' });
  await insert('off', { state: 'not_configured' });

  await migrate(db);
  // It has a job for the first of those that wait, and takes in one more mail.
  const { rows } = await db.pool.query<{ id: string }>("select id from email where natural_key = 'waiting1'");
  await theirs(rows[0]?.id ?? '', 'waiting1');
  const late = await insert('late');
  await Promise.all([theirs(late, 'late'), sendDue(deps()), sendDue(deps())]);

  expect(
    listMails(world)
      .map(({ to }) => to[0])
      .toSorted(),
  ).toEqual(
    ['late', 'nottaken', 'taken', 'waiting1', 'waiting2', 'waiting3'].map((name) => `${name}@example.com`),
  );
  const after = await db.pool.query<{ name: string; state: string; due: boolean }>(
    'select natural_key as name, state, due_at is not null as due from email order by 1',
  );
  expect(after.rows).toEqual(
    [
      ...[['late', 'sent'] as const, ['long', 'parked'] as const, ['nottaken', 'sent'] as const],
      ...[['off', 'not_configured'] as const, ['parked', 'parked'] as const, ['sent', 'sent'] as const],
      ...[['taken', 'sent'] as const, ['waiting1', 'sent'] as const],
      ...[['waiting2', 'sent'] as const, ['waiting3', 'sent'] as const],
    ].map(([name, state]) => ({ name, state, due: false })),
  );
});

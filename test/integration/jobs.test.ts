import { setTimeout as delay } from 'node:timers/promises';
import type { PgBoss } from 'pg-boss';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import {
  enqueue,
  type JobOutcome,
  type QueuedJob,
  startBoss,
  stopBoss,
  work,
} from '../../server/database/jobs.ts';
import { migrate } from '../../server/database/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let db: Database;
const started: PgBoss[] = [];
const logged: string[] = [];
const log = {
  error: (_details: object, message: string) => void logged.push(message),
  warn: () => undefined,
};

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'jobs-test' });
});

afterEach(async () => {
  await Promise.all(started.splice(0).map((boss) => stopBoss(boss)));
  await db.pool.query('delete from pgboss.job');
  expect(logged.splice(0)).toEqual([]);
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

async function boss(): Promise<PgBoss> {
  const one = await startBoss({ url: database.url, poolMax: 3, applicationName: 'jobs-test', log });
  started.push(one);
  return one;
}

async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await delay(5);
  }
}

async function count(where: string): Promise<number> {
  const { rows } = await db.pool.query<{ n: string }>(`select count(*) as n from pgboss.job where ${where}`);
  return Number(rows[0]?.n);
}

test('a job of a transaction that is rolled back never exists', async () => {
  await expect(
    db.transaction(async (tx) => {
      await enqueue(tx, 'stripe-event', { eventId: 'evt_rolled_back' });
      throw new Error('changed my mind');
    }),
  ).rejects.toThrow('changed my mind');
  expect(await count('true')).toBe(0);
});

test('a job is unseen before the commit and reaches a waiting worker well within a second after it', async () => {
  const seen = new Map<string, number>();
  await work(await boss(), 'stripe-event', { batchSize: 10, concurrency: 1 }, async (jobs) => {
    for (const job of jobs) seen.set(job.data.eventId, performance.now());
    return jobs.map(({ id }) => ({ id, status: 'completed' }));
  });
  await db.transaction((tx) => enqueue(tx, 'stripe-event', { eventId: 'evt_warm_up' }));
  await until('first job seen', () => seen.has('evt_warm_up'));

  const waits: number[] = [];
  for (let index = 0; index < 5; index += 1) {
    const eventId = `evt_${index}`;
    await db.transaction(async (tx) => {
      await enqueue(tx, 'stripe-event', { eventId });
      await tx.execute('select pg_sleep(0.02)');
      expect(await count("state <> 'completed'")).toBe(0);
    });
    const committed = performance.now();
    await until(`${eventId} seen`, () => seen.has(eventId));
    waits.push((seen.get(eventId) ?? Number.POSITIVE_INFINITY) - committed);
  }
  // Without LISTEN/NOTIFY each would wait for the next look, a second or two away.
  expect(Math.max(...waits)).toBeLessThan(500);
});

test('each job of a batch meets its own fate', async () => {
  const batches: string[][] = [];
  const attempts: QueuedJob<'stripe-event'>[] = [];
  await db.transaction(async (tx) => {
    for (const eventId of ['good', 'bad', 'hopeless', 'forgotten'])
      await enqueue(tx, 'stripe-event', { eventId });
  });
  await work(await boss(), 'stripe-event', { batchSize: 10, concurrency: 1 }, async (jobs) => {
    batches.push(jobs.map((job) => job.data.eventId).toSorted());
    attempts.push(...jobs);
    return jobs.flatMap(({ id, data }): JobOutcome[] => {
      if (data.eventId === 'good') return [{ id, status: 'completed' }];
      if (data.eventId === 'bad') return [{ id, status: 'failed', reason: 'smtp says no' }];
      if (data.eventId === 'hopeless') return [{ id, status: 'deadletter', reason: 'no such template' }];
      return [];
    });
  });
  await until(
    'batch settled',
    async () => (await count("state in ('created', 'active') and name = 'stripe-event'")) === 0,
  );
  expect(batches[0]).toEqual(['bad', 'forgotten', 'good', 'hopeless']);
  expect(attempts[0]).toMatchObject({ attempt: 1, isLastAttempt: false });
  const { rows } = await db.pool.query<{ name: string; id: string; state: string; reason: string | null }>(
    "select name, data->>'eventId' as id, state::text, output->>'reason' as reason from pgboss.job order by name, id",
  );
  expect(rows).toEqual([
    { name: 'stripe-event', id: 'bad', state: 'retry', reason: 'smtp says no' },
    { name: 'stripe-event', id: 'forgotten', state: 'retry', reason: null },
    { name: 'stripe-event', id: 'good', state: 'completed', reason: null },
    { name: 'stripe-event', id: 'hopeless', state: 'failed', reason: 'no such template' },
    { name: 'stripe-event-dead', id: 'hopeless', state: 'created', reason: 'no such template' },
  ]);
});

test('a job that fails is tried again with its attempt counted', async () => {
  const attempts: number[] = [];
  await db.transaction((tx) => enqueue(tx, 'stripe-event', { eventId: 'evt_flaky' }));
  await work(await boss(), 'stripe-event', { batchSize: 1, concurrency: 1 }, async (jobs) =>
    jobs.map(({ id, attempt }) => {
      attempts.push(attempt);
      return attempt === 1 ? { id, status: 'failed', reason: 'first time' } : { id, status: 'completed' };
    }),
  );
  await until('second attempt', () => attempts.length === 2, 20_000);
  expect(attempts).toEqual([1, 2]);
});

test('a job with a start date waits for it and outlives the wait', async () => {
  const startAfter = new Date(Date.now() + 14 * 86_400_000);
  await db.transaction((tx) => enqueue(tx, 'stripe-event', { eventId: 'a' }, { startAfter }));
  const { rows } = await db.pool.query<{ start_after: string; keeps: boolean }>(
    'select start_after, keep_until > start_after as keeps from pgboss.job',
  );
  expect(rows.map((row) => [new Date(row.start_after), row.keeps])).toEqual([[startAfter, true]]);
});

test('concurrent workers in two processes share the jobs and do each once', async () => {
  const done: string[] = [];
  const handle = async (jobs: readonly QueuedJob<'stripe-event'>[]) => {
    done.push(...jobs.map((job) => job.data.eventId));
    return jobs.map(({ id }) => ({ id, status: 'completed' as const }));
  };
  for (const one of [await boss(), await boss()]) {
    await work(one, 'stripe-event', { batchSize: 7, concurrency: 2 }, handle);
  }
  const expected = Array.from({ length: 100 }, (_, index) => `evt_${index}`);
  await Promise.all(
    expected.map((eventId) => db.transaction((tx) => enqueue(tx, 'stripe-event', { eventId }))),
  );
  await until('all done', async () => (await count("state = 'completed'")) === 100);
  expect(done.toSorted()).toEqual(expected.toSorted());
});

test('enqueue refuses to work outside a transaction', async () => {
  await expect(enqueue(db.orm.em.fork(), 'stripe-event', { eventId: 'evt_1' })).rejects.toThrow(
    'outside a transaction',
  );
});

test('a database without the job queues stops the start, and can be used once it has been migrated', async () => {
  const bare = await createTestDatabase('template0');
  const other = await connectDatabase({ url: bare.url, poolMax: 2, applicationName: 'jobs-test' });
  const add = () => other.transaction((tx) => enqueue(tx, 'stripe-event', { eventId: 'evt_1' }));
  try {
    await expect(startBoss({ url: bare.url, poolMax: 2, applicationName: 'jobs-test', log })).rejects.toThrow(
      'pg-boss is not installed',
    );
    await expect(add()).rejects.toThrow('pg-boss is not installed');
    await migrate(other);
    await add();
  } finally {
    await other.close();
    await bare.drop();
  }
});

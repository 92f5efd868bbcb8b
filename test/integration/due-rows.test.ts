import { setTimeout as delay } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { type Crew, startCrew } from '../../server/database/crew.ts';
import { CHANNEL, notifyDue, watchDue } from '../../server/database/due.ts';
import { Account } from '../../server/database/entities/account.ts';
import { claimDue, claimOne, giveBack, type Held, raiseWanted, renew } from '../../server/database/lease.ts';
import type { Series } from '../../server/database/recurring.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { reached } from '../support/states.ts';

let database: TestDatabase;
let db: Database;
const open: { close(): Promise<void> }[] = [];
const warned: string[] = [];
const log = {
  info: () => undefined,
  warn: (_details: object, message: string) => void warned.push(message),
  error: (_details: object, message: string) => void warned.push(message),
};

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 6, applicationName: 'due-rows-test' });
});

beforeEach(async () => {
  await db.pool.query('delete from account_sync');
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
  expect(warned.splice(0)).toEqual([]);
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

async function account(): Promise<string> {
  const id = uuidv7(new Date());
  await db.transaction(async (tx) => {
    tx.create(Account, { id, email: `${id}@example.com`, createdAt: new Date() });
  });
  return id;
}

const want = (...ids: string[]): Promise<void> => db.transaction((tx) => raiseWanted(tx, ids));

async function row(id: string): Promise<Record<string, unknown> | undefined> {
  const { rows } = await db.pool.query<Record<string, unknown>>(
    `select wanted::int, done::int, lease, extract(epoch from leased_until)::float8 as leased_until
      from account_sync where account_id = $1`,
    [id],
  );
  return rows[0];
}

const endLeases = (): Promise<unknown> =>
  db.pool.query("update account_sync set leased_until = now() - interval '1 second'");

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`Not within ten seconds: ${what}`);
    await delay(5);
  }
}

test('what several tell of one account is one row that is due, and each raises what is wanted', async () => {
  const [one, other] = [await account(), await account()];
  await want(one, other, one);
  await want(one);
  expect(await row(one)).toMatchObject({ wanted: 2, done: 0, lease: null });
  expect(await row(other)).toMatchObject({ wanted: 1, done: 0 });
});

test('a row is with one process at a time, until its lease ends by the clock of the database', async () => {
  const id = await account();
  await want(id);
  const claims = await Promise.all(Array.from({ length: 5 }, () => claimDue(db, 'account_sync', 10)));
  expect(claims.map(({ keys }) => keys).filter(({ length }) => length > 0)).toEqual([[id]]);
  expect(await claimOne(db, 'account_sync', id)).toBeNull();

  await endLeases();
  expect((await claimDue(db, 'account_sync', 10)).keys).toEqual([id]);
});

test('those that have waited longest come first, and no more are taken than there is room for', async () => {
  const ids = [await account(), await account(), await account()];
  await want(...ids);
  for (const [at, id] of ids.entries())
    await db.pool.query(
      "update account_sync set due_at = now() - $2 * interval '1 second' where account_id = $1",
      [id, at],
    );
  expect((await claimDue(db, 'account_sync', 1)).keys).toEqual([ids[2]]);
  expect((await claimDue(db, 'account_sync', 1)).keys).toEqual([ids[1]]);
});

test('a renewal names the rows it is about: those it does not name end, and it is told of those that were lost', async () => {
  const [kept, forgotten, lost] = [await account(), await account(), await account()];
  await want(kept, forgotten, lost);
  const { lease } = await claimDue(db, 'account_sync', 10);
  const before = await row(forgotten);
  await db.pool.query(
    "update account_sync set leased_until = now() - interval '1 second' where account_id = $1",
    [lost],
  );
  const second = await claimOne(db, 'account_sync', lost);

  const held: Held[] = [kept, lost].map((key) => ({ lease, key }));
  expect(await renew(db, 'account_sync', held)).toEqual([{ lease, key: lost }]);

  expect((await row(forgotten))?.['leased_until']).toEqual(before?.['leased_until']);
  expect((await row(lost))?.['lease']).toBe(second?.lease);
  expect(Number((await row(kept))?.['leased_until'])).toBeGreaterThan(Number(before?.['leased_until']));
});

test('a row that is locked while it is renewed is neither lost nor waited for', async () => {
  const id = await account();
  await want(id);
  const { lease } = await claimDue(db, 'account_sync', 1);
  await db.transaction(async (tx) => {
    await tx.execute('select 1 from account_sync where account_id = ? for update', [id]);
    expect(await renew(db, 'account_sync', [{ lease, key: id }])).toEqual([]);
  });
});

test('whoever gives a row back after it was lost does not take it from its new owner', async () => {
  const id = await account();
  await want(id);
  const first = await claimDue(db, 'account_sync', 1);
  await endLeases();
  const second = await claimDue(db, 'account_sync', 1);
  await giveBack(db, 'account_sync', first, 60_000);
  expect((await row(id))?.['lease']).toBe(second.lease);

  await giveBack(db, 'account_sync', second, 60_000);
  expect((await claimDue(db, 'account_sync', 1)).keys).toEqual([]);
  // News end the pause.
  await want(id);
  expect((await claimDue(db, 'account_sync', 1)).keys).toEqual([id]);
});

/** A crew on accounts whose work is `work`. */
function crewOf(work: (id: string, signal: AbortSignal) => Promise<void>, places = 2): Crew {
  const crew = startCrew<Held>({
    name: 'test',
    places,
    async claim(limit) {
      const { lease, keys } = await claimDue(db, 'account_sync', limit);
      return keys.map((key) => ({ lease, key }));
    },
    work: ({ key }, signal) => work(key, signal),
    renew: (held) => renew(db, 'account_sync', held),
    log,
  });
  open.push(crew);
  return crew;
}

const settle = (id: string): Promise<unknown> =>
  db.pool.query(
    'update account_sync set due_at = null, lease = null, leased_until = null where account_id = $1',
    [id],
  );

test('a crew works on all that is due, on no more at a time than it has places, and each once', async () => {
  const ids = await Promise.all(Array.from({ length: 9 }, () => account()));
  await want(...ids);
  const worked: string[] = [];
  let now = 0;
  let most = 0;
  const crew = crewOf(async (id) => {
    now += 1;
    most = Math.max(most, now);
    await settle(id);
    worked.push(id);
    now -= 1;
  });
  crew.wake();
  await until('all nine', () => worked.length >= ids.length);
  expect(worked.toSorted()).toEqual(ids.toSorted());
  expect(most).toBe(2);
});

test('a crew renews what takes longer than a lease, and tells work that was lost to end', async () => {
  const id = await account();
  await want(id);
  const started = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<string>();
  crewOf(async (key, signal) => {
    started.resolve();
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    ended.resolve(key);
  }).wake();
  await started.promise;
  const first = await row(id);
  await until(
    'a second has been added',
    async () => Number((await row(id))?.['leased_until']) > Number(first?.['leased_until']),
  );
  expect(await claimOne(db, 'account_sync', id)).toBeNull();

  await db.pool.query('update account_sync set lease = $2 where account_id = $1', [id, uuidv7(new Date())]);
  expect(await ended.promise).toBe(id);
});

test('what is due is heard of at its commit, where the database tells', async () => {
  const woken = Promise.withResolvers<number>();
  open.push(
    watchDue(
      { db, clock: { now: () => new Date() }, log },
      { email: () => woken.resolve(performance.now()) },
    ),
  );
  await until('somebody listens', async () => {
    // Here alone, because other files of a run have databases on the same server; and it has been answered.
    const { rowCount } = await db.pool.query(
      "select 1 from pg_stat_activity where datname = current_database() and state = 'idle' and query = $1",
      [`listen ${CHANNEL}`],
    );
    return rowCount === 1;
  });
  await db.transaction((tx) => notifyDue(tx, 'email'));
  await woken.promise;
});

test('where nobody tells, what is due is found by looking, and only its kind is woken', async () => {
  const id = await account();
  await want(id);
  const woken: string[] = [];
  const series: Series = watchDue(
    { db, clock: { now: () => new Date() }, log },
    { account: () => void woken.push('account'), email: () => void woken.push('email') },
  );
  open.push(series);
  await until('the account is found', () => woken.length > 0);
  expect(new Set(woken)).toEqual(new Set(['account']));
});

test('where LISTEN is refused, what is due is found all the same, and the operator hears why', async () => {
  const refusing = async (): Promise<PoolClient> => {
    const client = await db.pool.connect();
    const query = client.query;
    Reflect.set(client, 'query', (...args: unknown[]): unknown => {
      if (args[0] === `listen ${CHANNEL}`) throw new Error('LISTEN is not supported here');
      return Reflect.apply(query, client, args);
    });
    return client;
  };
  const query: typeof db.pool.query = db.pool.query.bind(db.pool);
  const pool = Object.assign(Object.create(db.pool), { query, connect: refusing });
  const told = Promise.withResolvers<string>();
  const warn = (_: object, message: string): void => told.resolve(message);
  const woken = Promise.withResolvers<void>();
  open.push(
    watchDue(
      { db: { ...db, pool }, clock: { now: () => new Date() }, log: { ...log, warn } },
      { account: () => woken.resolve() },
    ),
  );
  expect(await told.promise).toBe('the database tells nothing for now; it is asked every second');
  await want(await account());
  await woken.promise;
  reached('the database tells nothing of what is due');
});

import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { isDatabaseUnavailable } from '../../server/database/unavailable.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const now = new Date('2026-05-01T00:00:00Z');

let database: TestDatabase;
let db: Database;
let admin: Database;

beforeAll(async () => {
  database = await createTestDatabase();
  admin = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'connection-admin' });
  db = await connectDatabase({ url: database.url, poolMax: 3, applicationName: 'connection-test' });
});

afterAll(async () => {
  await db?.close();
  await admin?.close();
  await database?.drop();
});

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  );
}

const account = (email: string) => ({ id: uuidv7(now), email, createdAt: now });

test('a transaction commits what was changed in it and rolls all of it back when it throws', async () => {
  await db.transaction(async (tx) => {
    tx.create(Account, account('kept@example.com'));
  });
  const thrown = new Error('changed my mind');
  const error = await failure(
    db.transaction(async (tx) => {
      tx.create(Account, account('dropped@example.com'));
      await tx.flush();
      throw thrown;
    }),
  );
  expect(error).toBe(thrown);
  const { rows } = await db.pool.query<{ email: string }>('select email from account');
  expect(rows.map((row) => row.email)).toEqual(['kept@example.com']);
});

test('a transaction inside another is refused, because it would wait for the locks of the first', async () => {
  await expect(db.transaction(() => db.transaction(async () => 1))).rejects.toThrow('inside another');
});

test('transactions of concurrent callers do not see each other', async () => {
  await Promise.all(
    Array.from({ length: 10 }, (_, index) =>
      db.transaction(async (tx) => {
        tx.create(Account, account(`concurrent-${index}@example.com`));
      }),
    ),
  );
  const { rowCount } = await db.pool.query("select 1 from account where email like 'concurrent-%'");
  expect(rowCount).toBe(10);
});

test('connections the server ends are noticed, survived and replaced', async () => {
  const idle: Error[] = [];
  const own = await connectDatabase({
    url: database.url,
    poolMax: 3,
    applicationName: 'connection-victim',
    onIdleError: (error) => idle.push(error),
  });
  const end = () =>
    admin.pool.query(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name = 'connection-victim'",
    );
  try {
    const busy = failure(own.transaction((tx) => tx.execute('select pg_sleep(30)')));
    await expect.poll(() => active('connection-victim'), { timeout: 5_000 }).toBe(1);
    await end();
    expect(isDatabaseUnavailable(await busy)).toBe(true);
    expect(own.pool.totalCount - own.pool.idleCount, 'connections never given back').toBe(0);

    await own.pool.query('select 1');
    await end();
    await expect.poll(() => idle.length, { timeout: 5_000 }).toBeGreaterThan(0);
    expect((await own.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  } finally {
    await own.close();
  }
});

test("a connection that ends while all are being closed is nobody's news", async () => {
  const idle: Error[] = [];
  const own = await connectDatabase({
    url: database.url,
    poolMax: 1,
    applicationName: 'connection-closing',
    onIdleError: (error) => idle.push(error),
  });
  own.pool.emit('error', new Error('before'), undefined);
  const closing = own.close();
  own.pool.emit('error', new Error('the server shuts down as well'), undefined);
  await closing;
  expect(idle.map(({ message }) => message)).toEqual(['before']);
});

async function active(applicationName: string): Promise<number> {
  const { rowCount } = await admin.pool.query(
    "select 1 from pg_stat_activity where datname = current_database() and application_name = $1 and state = 'active' and query like '%pg_sleep%'",
    [applicationName],
  );
  return rowCount ?? 0;
}

test('waiting for a connection, a slow statement and an absent server end within their timeouts', async () => {
  const own = await connectDatabase({
    url: database.url,
    poolMax: 1,
    applicationName: 'connection-slow',
    connectionTimeoutMs: 1_000,
    statementTimeoutMs: 300,
  });
  try {
    const only = await own.pool.connect();
    const noSlot = await failure(own.pool.query('select 1'));
    only.release();
    expect(noSlot).toMatchObject({ message: 'timeout exceeded when trying to connect' });
    expect(isDatabaseUnavailable(noSlot)).toBe(true);
    const slow = failure(own.transaction((tx) => tx.execute('select pg_sleep(30)')));
    // Ended by the server, so that it does not go on working for nobody.
    expect(await slow).toMatchObject({ code: '57014' });
    expect(isDatabaseUnavailable(await slow)).toBe(true);
    expect((await own.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  } finally {
    await own.close();
  }
  const absent = await failure(
    connectDatabase({ url: 'postgres://nobody@127.0.0.1:1/none', poolMax: 1, applicationName: 'x' }),
  );
  expect(isDatabaseUnavailable(absent)).toBe(true);
});

test('a connection that has gone silent is given up in time and not used again', async () => {
  const line = await openLine(new URL(database.url));
  const url = new URL(database.url);
  url.port = String(line.port);
  const own = await connectDatabase({
    url: url.href,
    poolMax: 1,
    applicationName: 'connection-silent',
    statementTimeoutMs: 100,
  });
  try {
    await own.orm.em.fork().execute('select 1');
    line.freeze();
    const hung = await failure(own.orm.em.fork().execute('select 1'));
    expect(hung).toMatchObject({ message: expect.stringContaining('Query read timeout') });
    expect(isDatabaseUnavailable(hung)).toBe(true);
    // The same pool slot gets a new connection, which is not frozen.
    expect(await own.orm.em.fork().execute('select 1 as one')).toEqual([{ one: 1 }]);
    // In a transaction as well.
    const silent = await failure(
      own.transaction(async (tx) => {
        await tx.execute('select 1');
        line.freeze();
        await tx.execute('select 1');
      }),
    );
    expect(isDatabaseUnavailable(silent)).toBe(true);
    expect(await own.orm.em.fork().execute('select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    line.close();
    await own.close();
  }
});

test('a connection that owes no answer is not given up, however long it is silent', async () => {
  const client = await db.pool.connect();
  try {
    const pid = async () => (await client.query('select pg_backend_pid() as pid')).rows;
    const before = await pid();
    client.connection.stream.emit('timeout');
    expect(await pid()).toEqual(before);
  } finally {
    client.release();
  }
});

test('a statement makes no timer', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const client = await db.pool.connect();
  try {
    const before = timers();
    const statement = client.query('select 1');
    expect(timers()).toBe(before);
    await statement;
  } finally {
    client.release();
  }
});

type Line = { port: number; freeze(): void; close(): void };

/** A line to the server on which the connections of the moment can be made to carry nothing any more. */
async function openLine(target: URL): Promise<Line> {
  const pairs = new Set<[Socket, Socket]>();
  const server: Server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    near.pipe(far).pipe(near);
    for (const socket of pair) socket.on('error', () => undefined).on('close', () => pairs.delete(pair));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    freeze() {
      for (const [near, far] of pairs) {
        near.unpipe(far);
        far.unpipe(near);
      }
    },
    close() {
      server.close();
      for (const sockets of pairs) for (const socket of sockets) socket.destroy();
    },
  };
}

test('an error about a statement itself is not taken for an outage', async () => {
  const error = await failure(
    db.transaction(async (tx) => {
      tx.create(Account, account('twin@example.com'));
      tx.create(Account, account('twin@example.com'));
    }),
  );
  expect(error).toMatchObject({ name: 'UniqueConstraintViolationException' });
  expect(isDatabaseUnavailable(error)).toBe(false);
  expect(isDatabaseUnavailable(await failure(db.pool.query('select nonsense')))).toBe(false);
  expect(isDatabaseUnavailable(new Error('anything else'))).toBe(false);
  expect(isDatabaseUnavailable('not an error')).toBe(false);
});

test('closing while connections are being made waits for who has one, refuses the rest, and ends', async () => {
  const own = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'connection-closing' });
  const calls = Array.from({ length: 8 }, () => own.transaction(async () => 'done').catch((error) => error));
  // One turn later the first of them asks for its connection, and none has got it yet.
  await Promise.resolve();
  await own.close();
  for (const outcome of await Promise.all(calls)) {
    if (outcome !== 'done') expect(isDatabaseUnavailable(outcome)).toBe(true);
  }
  const left =
    "select 1 from pg_stat_activity where datname = current_database() and application_name = 'connection-closing'";
  await expect.poll(async () => (await admin.pool.query(left)).rowCount).toBe(0);
});

test('closing it again waits for the same end', async () => {
  const own = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'connection-twice' });
  await own.pool.query('select 1');
  await Promise.all([own.close(), own.close()]);
  await own.close();
  const left =
    "select 1 from pg_stat_activity where datname = current_database() and application_name = 'connection-twice'";
  await expect.poll(async () => (await admin.pool.query(left)).rowCount).toBe(0);
});

import { AsyncLocalStorage } from 'node:async_hooks';
import { Migrator } from '@mikro-orm/migrations';
import { type EntityManager, MikroORM, UnderscoreNamingStrategy } from '@mikro-orm/postgresql';
import type { Pool, PoolClient, PoolConfig } from 'pg';
import { MIGRATIONS } from '../../migrations/list.ts';
import { createAccountTurns } from './account-turns.ts';
import { ENTITIES } from './entities.ts';
import { MendableError } from './mendable.ts';
import { fromDatabase, noteErrorsOf } from './origin.ts';
import { giveUpSilent } from './silent.ts';
import { noteConnection, type Statement } from './statement.ts';

export type Tx = EntityManager;

export type Database = {
  readonly orm: MikroORM;
  /** MikroORM's own pool, for prepared statements that need no entities. */
  readonly pool: Pool;
  /** Where it is, for connections beside the pool. A secret. */
  readonly url: string;
  /**
   * Runs `fn` in one transaction on an entity manager of its own, commits what it returns and rolls back
   * what it throws. Changed entities are flushed before the commit. Never nested.
   */
  transaction<T>(fn: (tx: Tx) => Promise<T>, options?: { isolation?: 'repeatable read' }): Promise<T>;
  /**
   * The same for what locks this account's row. Within the process such transactions wait for one another before
   * they take a connection, so that one busy account never holds more than one. Who waits too long gets 503.
   */
  transactionOn<T>(accountId: string, fn: (tx: Tx) => Promise<T>): Promise<T>;
  /** The same line, for work that opens its transaction itself. */
  turnOn<T>(accountId: string, work: () => Promise<T>): Promise<T>;
  /** In the same turn, one prepared statement that is a transaction of its own and locks the account's row itself. */
  statementOn<Row extends object>(
    accountId: string,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<Row[]>;
  /** Waits for open statements and closes every connection; called again, it waits for the same. */
  close(): Promise<void>;
};

export type DatabaseOptions = {
  url: string;
  poolMax: number;
  /** What the server's own views call our connections. */
  applicationName: string;
  /** How long a statement may run on the server, locks it waits for included; 0 for as long as it needs. */
  statementTimeoutMs?: number;
  /** How long to wait for a connection, be it a new one or one in use. */
  connectionTimeoutMs?: number;
  /** How long a statement waits for a lock that another process holds; 0 for as long as it may run. */
  lockTimeoutMs?: number;
  /** Told about connections that broke while nobody used them; the pool has already dropped them. */
  onIdleError?: (error: Error) => void;
};

/** Longer than any transaction of ours stays silent while it reads from Stripe. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_DELAY_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 10_000;
/** Shorter than anybody waits for a connection, so that whoever waits for a lock is never why there is none. */
const LOCK_TIMEOUT_MS = 4_000;
/** How long a transaction waits for those about the same account, without a connection. */
const ACCOUNT_PATIENCE_MS = 5_000;

/**
 * Connects to PostgreSQL; throws what `explainDatabaseError` puts into words where that fails, and a MendableError
 * for a server that is too old. Creates nothing.
 */
export async function connectDatabase(options: DatabaseOptions): Promise<Database> {
  const url = verifyingUrl(options.url);
  const orm = await MikroORM.init({
    clientUrl: url,
    entities: ENTITIES,
    extensions: [Migrator],
    namingStrategy: UnderscoreNamingStrategy,
    // Values never go to a log, and neither do statements, because MikroORM writes the values into them.
    debug: false,
    logger: () => undefined,
    forceUtcTimezone: true,
    // A mistyped name must not make a database: whoever names one has it.
    ensureDatabase: false,
    migrations: { migrationsList: MIGRATIONS, snapshot: false, snapshotOnMigrate: false, silent: true },
    driverOptions: poolConfig({ ...options, url }),
  });
  const pool = await reach(orm, options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS);
  let closing: Promise<void> | undefined;
  // One that we are giving up can still be told that its server goes, which is no news to anybody.
  pool.on('error', (error) => closing === undefined && options.onIdleError?.(error));
  const transaction = transactions(orm, pool);
  const turns = createAccountTurns(ACCOUNT_PATIENCE_MS);
  return {
    orm,
    pool,
    url,
    transaction,
    transactionOn: (accountId, fn) => turns(accountId, () => transaction(fn)),
    turnOn: turns,
    statementOn: (accountId, { name, text }, values) =>
      turns(accountId, async () => (await pool.query({ name, text, values: [...values] })).rows),
    close: () => {
      closing ??= close(orm, pool);
      return closing;
    },
  };
}

/**
 * MikroORM's own transactions take a connection through Kysely that is given back only after a successful
 * commit or rollback, so each connection that breaks inside one is lost to the pool for good. Kysely's
 * callback form always gives it back; the entity manager is put on top of it here.
 */
function transactions(orm: MikroORM, pool: Pool): Database['transaction'] {
  const open = new AsyncLocalStorage<Open>();
  watchConnections(pool, open);
  return async (fn, { isolation } = {}) => {
    if (open.getStore()) throw new Error('A transaction must not be opened inside another');
    const client = orm.driver.getConnection().getClient();
    const builder = isolation ? client.transaction().setIsolationLevel(isolation) : client.transaction();
    let thrown: { error: unknown } | undefined;
    try {
      const opened: Open = {};
      return await open.run(opened, () =>
        builder.execute(async (transaction) => {
          const tx = orm.em.fork();
          tx.setTransactionContext(transaction);
          if (opened.connection) noteConnection(tx, opened.connection);
          try {
            const result = await fn(tx);
            await tx.flush();
            return result;
          } catch (error) {
            thrown = { error };
            throw error;
          }
        }),
      );
    } catch (error) {
      // If the rollback fails as well, what led to it says more.
      throw thrown ? thrown.error : error;
    }
  };
}

/** A transaction that has been asked for, and its connection once it has one. */
type Open = { connection?: PoolClient };

/** Kysely keeps the connection of a transaction to itself, so it is noted where Kysely gets it from. */
function watchConnections(pool: Pool, open: AsyncLocalStorage<Open>): void {
  const connect = pool.connect;
  Reflect.set(pool, 'connect', (...args: unknown[]): unknown => {
    const answer: unknown = Reflect.apply(connect, pool, args);
    const opened = open.getStore();
    if (!opened || opened.connection || !(answer instanceof Promise)) return answer;
    return answer.then((connection: PoolClient) => {
      opened.connection ??= connection;
      return connection;
    });
  });
}

const ENDED_BEFORE = 'Called end on pool more than once';

/**
 * Kysely forgets its pool before it ends it, and then fails on each connection that was still being made,
 * without giving it back: the pool would wait for that one for ever. So the pool is ended first; who asks
 * it for a connection from then on is refused.
 */
async function close(orm: MikroORM, pool: Pool): Promise<void> {
  await pool.end();
  try {
    await orm.close(true);
  } catch (error) {
    if (!(error instanceof Error && error.message === ENDED_BEFORE)) throw error;
  }
}

function poolConfig(options: DatabaseOptions): PoolConfig {
  const { statementTimeoutMs = STATEMENT_TIMEOUT_MS, connectionTimeoutMs = 5_000 } = options;
  const { lockTimeoutMs = statementTimeoutMs > 0 ? LOCK_TIMEOUT_MS : 0 } = options;
  return {
    // MikroORM takes host, port and names from the URL and leaves out the rest: above all, what is asked of TLS.
    connectionString: options.url,
    max: options.poolMax,
    application_name: options.applicationName,
    connectionTimeoutMillis: connectionTimeoutMs,
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
  };
}

/** The oldest PostgreSQL that still gets corrections of its errors when this was written. */
const OLDEST_MAJOR = 14;

/**
 * pg takes every mode that asks for TLS as `verify-full`, and warns that this will change: said outright, it stays.
 * With `uselibpqcompat=true` the modes mean what they mean to libpq.
 */
function verifyingUrl(text: string): string {
  const url = new URL(text);
  const mode = url.searchParams.get('sslmode') ?? '';
  if (!ALIASES.has(mode) || url.searchParams.get('uselibpqcompat') === 'true') return text;
  url.searchParams.set('sslmode', 'verify-full');
  return url.href;
}

const ALIASES: ReadonlySet<string> = new Set(['prefer', 'require', 'verify-ca']);

/** Throws a MendableError for a `server_version_num` that is older than we can work with. */
export function refuseOld(version: number): void {
  const major = Math.floor(version / 10_000);
  if (major >= OLDEST_MAJOR) return;
  throw new MendableError(
    `DATABASE_URL: the server is PostgreSQL ${major}; ${OLDEST_MAJOR} or newer is needed, and 18 is what we test with.`,
  );
}

/** MikroORM connects at the first query; we want to know at the start. */
async function reach(orm: MikroORM, statementTimeoutMs: number): Promise<Pool> {
  try {
    const pool = await orm.driver.getConnection().getNativeClient();
    noteErrorsOf(pool);
    if (statementTimeoutMs > 0) pool.on('connect', (client) => giveUpSilent(client, statementTimeoutMs));
    const { rows } = await pool.query<{ version: number }>(
      "select current_setting('server_version_num')::int as version",
    );
    refuseOld(rows[0]?.version ?? 0);
    return pool;
  } catch (error) {
    await orm.close(true);
    throw fromDatabase(error);
  }
}

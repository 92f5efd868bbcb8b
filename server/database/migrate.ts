import { PgBoss, type QueueResult } from 'pg-boss';
import { MIGRATIONS } from '../../migrations/list.ts';
import { connectDatabase, type Database } from './connection.ts';
import { passiveBoss } from './jobs.ts';
import { DEAD_LETTER_POLICY, deadLetterOf, JOBS_SCHEMA, QUEUES, type QueuePolicy } from './queues.ts';

const MIGRATIONS_TABLE = 'mikro_orm_migrations';

/** Any number will do, as long as every version of this service uses the same one. */
const MIGRATION_LOCK = 4_021_726_581;

/**
 * Brings tables and job queues up to date; does nothing where they are. Safe to call from several processes
 * at once, and to repeat after a failure. Uses a connection of its own, on which statements may take long.
 */
export async function migrate(db: Database): Promise<void> {
  const own = await connectDatabase({
    url: db.url,
    poolMax: 2,
    applicationName: 'driftstack-migrate',
    statementTimeoutMs: 0,
  });
  try {
    const lock = await own.pool.connect();
    try {
      await lock.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
      await own.orm.migrator.up();
      await migrateJobs(own.url);
    } finally {
      // Closing the connection gives the lock back, whatever state it is in.
      lock.release(true);
    }
  } finally {
    await own.close();
  }
}

/** `migrate` where anything is pending; where nothing is, as at most starts, it costs a few short statements. */
export async function migrateIfBehind(db: Database): Promise<void> {
  if ((await pendingMigrations(db)).length > 0) await migrate(db);
}

async function migrateJobs(url: string): Promise<void> {
  const boss = new PgBoss({
    connectionString: url,
    max: 1,
    application_name: 'driftstack-migrate',
    schema: JOBS_SCHEMA,
    supervise: false,
    schedule: false,
  });
  const failures: Error[] = [];
  boss.on('error', (error) => failures.push(error));
  try {
    await boss.start();
    for (const { name, policy } of expectedQueues()) {
      await boss.createQueue(name, policy);
      await boss.updateQueue(name, policy);
    }
  } finally {
    await boss.stop({ graceful: false });
  }
  if (failures[0]) throw failures[0];
}

/** Names whatever `migrate` would still change; empty when the database is up to date. Changes nothing. */
export async function pendingMigrations(db: Database): Promise<string[]> {
  const pending = await pendingTables(db);
  return [...pending, ...(await pendingJobs(db))];
}

async function pendingTables(db: Database): Promise<string[]> {
  const ran = new Set(await ranMigrations(db));
  return MIGRATIONS.filter(({ name }) => !ran.has(name)).map(({ name }) => `migration ${name}`);
}

/** Names the migrations that ran here and that this version does not know: a newer one has been at work. */
export async function unknownMigrations(db: Database): Promise<string[]> {
  const known = new Set(MIGRATIONS.map(({ name }) => name));
  return (await ranMigrations(db)).filter((name) => !known.has(name));
}

async function ranMigrations({ pool }: Database): Promise<string[]> {
  const found = await pool.query<{ table: string | null }>('select to_regclass($1)::text as table', [
    MIGRATIONS_TABLE,
  ]);
  if (!found.rows[0]?.table) return [];
  const ran = await pool.query<{ name: string }>(`select name from ${MIGRATIONS_TABLE} order by name`);
  return ran.rows.map(({ name }) => name);
}

async function pendingJobs({ pool }: Database): Promise<string[]> {
  const executor = { executeSql: (text: string, values?: unknown[]) => pool.query(text, values) };
  let boss: PgBoss;
  try {
    boss = await passiveBoss(executor);
  } catch (error) {
    if (error instanceof Error && NOT_CURRENT.has(error.message)) return ['job queue schema'];
    throw error;
  }
  const queues = new Map((await boss.getQueues()).map((queue) => [queue.name, queue]));
  return expectedQueues()
    .filter(({ name, policy }) => !follows(queues.get(name), policy))
    .map(({ name }) => `job queue ${name}`);
}

/** pg-boss says these when its schema is missing or of another version. */
const NOT_CURRENT: ReadonlySet<string> = new Set([
  'pg-boss is not installed',
  'pg-boss database requires migrations',
]);

type ExpectedQueue = { name: string; policy: QueuePolicy & { deadLetter?: string } };

/** Dead letters first, because a queue can only name one that exists. */
function expectedQueues(): ExpectedQueue[] {
  return Object.entries<QueuePolicy>(QUEUES).flatMap(([name, policy]) => {
    const deadLetter = deadLetterOf(name);
    return [
      { name: deadLetter, policy: DEAD_LETTER_POLICY },
      { name, policy: { ...policy, deadLetter } },
    ];
  });
}

function follows(queue: QueueResult | undefined, policy: ExpectedQueue['policy']): boolean {
  const actual = new Map(Object.entries(queue ?? {}));
  return Object.entries(policy).every(([key, value]) => actual.get(key) === value);
}

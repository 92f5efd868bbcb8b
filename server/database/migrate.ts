import { MIGRATIONS } from '../../migrations/list.ts';
import { connectDatabase, type Database } from './connection.ts';

const MIGRATIONS_TABLE = 'mikro_orm_migrations';

/** Any number will do, as long as every version of this service uses the same one. */
const MIGRATION_LOCK = 4_021_726_581;

/**
 * Brings the tables up to date; does nothing where they are. Safe to call from several processes
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

/** Names whatever `migrate` would still change; empty when the database is up to date. Changes nothing. */
export async function pendingMigrations(db: Database): Promise<string[]> {
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

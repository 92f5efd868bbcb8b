import { type Config, embeddedDataDir } from '../config.ts';
import { connectDatabase, type Database } from '../database/connection.ts';
import { findEmbeddedPostgres } from '../database/embedded/running.ts';
import { startEmbeddedPostgres } from '../database/embedded.ts';
import { MendableError } from '../database/mendable.ts';
import { migrateIfBehind, pendingMigrations, unknownMigrations } from '../database/migrate.ts';

/**
 * Opens the database for one command: the one DATABASE_URL names, else the embedded one, which is used where
 * it runs already and is started for the length of the command where it does not. The embedded one migrates
 * itself; the other one must be up to date, or this throws a MendableError.
 */
export async function withDatabase<T>(
  config: Config,
  use: (db: Database) => Promise<T>,
  { migrated = true }: { migrated?: boolean } = {},
): Promise<T> {
  const embedded = config.database.kind === 'embedded' ? await reachEmbedded(config) : null;
  const url = config.database.kind === 'url' ? config.database.url : (embedded?.url ?? '');
  try {
    const db = await connectDatabase({ url, poolMax: 4, applicationName: 'driftstack-cli' });
    try {
      if (migrated) await (embedded ? bringUpToDate(db, config) : refuseIfBehind(db));
      return await use(db);
    } finally {
      await db.close();
    }
  } finally {
    await embedded?.close();
  }
}

/** Throws a MendableError that names the command to run where the database is older than this version of the service. */
export async function refuseIfBehind(db: Database): Promise<void> {
  const pending = await pendingMigrations(db);
  if (pending.length === 0) return;
  throw new MendableError(
    `The database is behind by ${pending.join(', ')}. Bring it up to date with: npm run --silent cli -- migrate`,
  );
}

/**
 * Migrates the embedded database. Throws a MendableError, and changes nothing, where a newer version has worked in it:
 * this one would leave out what that one keeps there.
 */
export async function bringUpToDate(db: Database, config: Config): Promise<void> {
  const unknown = await unknownMigrations(db);
  if (unknown.length > 0)
    throw new MendableError(
      `The data in ${config.dataDir} was brought further by a newer version of this service (${unknown.join(', ')}): ` +
        'start that version again, or give this one a directory of its own by DATA_DIR.',
    );
  await migrateIfBehind(db);
}

/**
 * What to warn of where the database is ahead of this version; null where it is not. No reason to refuse: while a
 * new version is rolled out, processes of the old one are still started beside a database that is migrated already.
 */
export async function warnIfAhead(db: Database): Promise<string | null> {
  const unknown = await unknownMigrations(db);
  if (unknown.length === 0) return null;
  return (
    `the database was brought further by a newer version of this service (${unknown.join(', ')}): that is as it ` +
    'should be while that version is rolled out; else start that one here too'
  );
}

async function reachEmbedded(config: Config): Promise<{ url: string; close(): Promise<void> }> {
  const dataDir = embeddedDataDir(config);
  const running = await findEmbeddedPostgres(dataDir);
  if (running !== null) return { url: running, close: async () => undefined };
  return await startEmbeddedPostgres({ dataDir, log: () => undefined });
}

import { type Config, embeddedDataDir } from '../config.ts';
import { connectDatabase, type Database } from '../database/connection.ts';
import { findEmbeddedPostgres } from '../database/embedded/running.ts';
import { startEmbeddedPostgres } from '../database/embedded.ts';
import { MendableError } from '../database/mendable.ts';
import { migrateIfBehind, pendingMigrations } from '../database/migrate.ts';

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
      if (migrated) await (embedded ? migrateIfBehind(db) : refuseIfBehind(db));
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

async function reachEmbedded(config: Config): Promise<{ url: string; close(): Promise<void> }> {
  const dataDir = embeddedDataDir(config);
  const running = await findEmbeddedPostgres(dataDir);
  if (running !== null) return { url: running, close: async () => undefined };
  return await startEmbeddedPostgres({ dataDir, log: () => undefined });
}

import type { FastifyInstance } from 'fastify';
import type { Database } from '../database/connection.ts';
import { pendingMigrations } from '../database/migrate.ts';
import type { Metrics } from './metrics.ts';

export type HealthParts = {
  readonly db: Database;
  readonly metrics: Metrics;
  /** True from the moment the process has been told to stop. */
  readonly isDraining: () => boolean;
};

const REACH_MS = 2_000;

/** Mounts `/healthz` (the process runs), `/readyz` (it can serve) and `/metrics`. */
export function mountHealth(app: FastifyInstance, { db, metrics, isDraining }: HealthParts): void {
  const readDatabase = databaseReader(db);

  app.get('/healthz', async () => ({ status: 'ok' }));

  app.get('/readyz', async (_request, reply) => {
    const database = await readDatabase();
    const ready = database === 'ok' && !isDraining();
    return reply.code(ready ? 200 : 503).send({
      status: ready ? 'ok' : 'unavailable',
      checks: { database, draining: isDraining() },
    });
  });

  app.get('/metrics', async (_request, reply) =>
    reply.header('content-type', metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
}

type DatabaseCheck = 'ok' | 'unreachable' | 'not migrated';

function databaseReader(db: Database): () => Promise<DatabaseCheck> {
  // Migrations are never undone under a running process, so being up to date is found out once.
  let migrated = false;
  return async () => {
    try {
      return await within(REACH_MS, async () => {
        if (migrated) await db.pool.query('select 1');
        else migrated = (await pendingMigrations(db)).length === 0;
        return migrated ? 'ok' : 'not migrated';
      });
    } catch {
      // The answer itself is the report; whoever polls it decides what to do.
      return 'unreachable';
    }
  };
}

async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`No answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

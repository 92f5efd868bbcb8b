import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { Database } from '../database/connection.ts';
import { pendingMigrations } from '../database/migrate.ts';
import { createGate } from './gate.ts';
import type { Metrics } from './metrics.ts';
import { sharedRun } from './shared-run.ts';

export type HealthParts = {
  readonly db: Database;
  readonly metrics: Metrics;
  /** True from the moment the process has been told to stop. */
  readonly isDraining: () => boolean;
};

const REACH_MS = 2_000;
/** How far apart the figures, and the looks at the database, are read at least, whoever asks for them. */
const METRICS_PAUSE_MS = 200;
const READINESS_PAUSE_MS = 100;
/** More than any load balancer and scraper have open at a time. */
const MOST_IN_FLIGHT = 64;

/** Mounts `/healthz`: the process runs. */
export function mountHealth(app: FastifyInstance): void {
  app.get('/healthz', async () => ({ status: 'ok' }));
}

/**
 * Mounts `/readyz` (it can serve) and `/metrics`, for the operator's own programs: no page of another site gets an
 * answer, and however many ask, what they cost is bounded.
 */
export function mountOperations(app: FastifyInstance, { db, metrics, isDraining }: HealthParts): void {
  const readDatabase = sharedRun(databaseReader(db), { pauseMs: READINESS_PAUSE_MS });
  const readMetrics = sharedRun(async () => Buffer.from(await metrics.registry.metrics()), {
    pauseMs: METRICS_PAUSE_MS,
  });
  const gate = createGate(MOST_IN_FLIGHT);
  app.addHook('onRequest', async (request, reply) => refusePages(request, reply));

  app.get(
    '/readyz',
    gate(async (_request, reply) => {
      const database = await readDatabase();
      const ready = database === 'ok' && !isDraining();
      return reply.code(ready ? 200 : 503).send({
        status: ready ? 'ok' : 'unavailable',
        checks: { database, draining: isDraining() },
      });
    }),
  );

  app.get(
    '/metrics',
    gate(async (_request, reply) =>
      reply.header('content-type', metrics.registry.contentType).send(await readMetrics()),
    ),
  );
}

/** Browsers say where a request comes from; programs say nothing. A person who types the address is no page. */
function refusePages({ headers }: FastifyRequest, reply: FastifyReply): void {
  reply.removeHeader('access-control-allow-origin');
  reply.removeHeader('access-control-expose-headers');
  reply.header('cross-origin-resource-policy', 'same-origin');
  const site = headers['sec-fetch-site'];
  const isOwn = site === undefined || site === 'none' || site === 'same-origin';
  // Browsers too old to say more still name the page's origin with what they send for a script.
  if (isOwn && (site !== undefined || headers.origin === undefined)) return;
  throw new ProblemError('forbidden', 'Pages of other sites cannot ask for this.');
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

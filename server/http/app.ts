import type { FastifyInstance } from 'fastify';
import type { ApiDeps } from '../api/context.ts';
import type { Database } from '../database/connection.ts';
import { mountApi } from './api-door.ts';
import { type InFlight, MOST_IN_FLIGHT } from './gate.ts';
import { mountHealth, mountOperations } from './health.ts';
import { createLimiter, RATE_LIMITS, type RateLimits } from './limits.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { mountPages } from './pages.ts';
import { openServer, type ServerDeps } from './server.ts';
import { mountStripeDoor, type WebhookParts } from './stripe-door.ts';

export type HttpDeps = Omit<ServerDeps, 'metrics'> & {
  readonly db: Database;
  /** Where this service counts; one of its own where none is given. */
  readonly metrics?: Metrics;
  /** Mounts tRPC, REST and the pages when given. */
  readonly api?: { readonly deps: ApiDeps; readonly limits?: RateLimits };
  /** Mounts the door for Stripe when given. */
  readonly webhooks?: Pick<WebhookParts, 'takeIn'>;
  /** True from the moment the process has been told to stop; `/readyz` says so. */
  readonly isDraining?: () => boolean;
  readonly maxInFlight?: InFlight;
  /** Leaves `/readyz` and `/metrics` to a server of their own. */
  readonly withoutOperations?: boolean;
};

/** Puts the doors of the service together; nothing listens until the caller says so. */
export function buildHttp(deps: HttpDeps): FastifyInstance {
  const { db, clock, isDraining = () => false, maxInFlight = MOST_IN_FLIGHT } = deps;
  const metrics = deps.metrics ?? createMetrics({ db, clock });
  const app = openServer({ ...deps, metrics });
  mountHealth(app);
  if (!deps.withoutOperations)
    app.register(async (scope) => mountOperations(scope, { db, metrics, isDraining }));
  const { api, webhooks } = deps;
  if (api) {
    const limiter = createLimiter(api.limits ?? RATE_LIMITS);
    app.register(async (scope) => mountApi(scope, { deps: api.deps, limiter, maxInFlight }));
    mountPages(app, { mostInFlight: maxInFlight.pages, withOperations: !deps.withoutOperations });
  }
  if (webhooks) {
    app.register(async (scope) =>
      mountStripeDoor(scope, { takeIn: webhooks.takeIn, metrics, maxInFlight: maxInFlight.deliveries }),
    );
  }
  return app;
}

/** The operator's own server: `/healthz`, `/readyz` and `/metrics`, and nothing else. */
export function buildOperations(
  deps: ServerDeps & { readonly db: Database; readonly isDraining: () => boolean },
): FastifyInstance {
  const app = openServer(deps);
  mountHealth(app);
  app.register(async (scope) => mountOperations(scope, deps));
  return app;
}

import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Database } from '../database/connection.ts';

export type Metrics = {
  /** For rooms that count something of their own. */
  readonly registry: Registry;
  countRequest(request: FastifyRequest, reply: FastifyReply): void;
  countEvent(result: 'stored' | 'duplicate' | 'ignored' | 'refused'): void;
};

const BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The figures of one app, in a registry of its own so that two apps in one process do not mix. */
export function createMetrics({ pool }: Pick<Database, 'pool'>): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: 'driftstack_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the last of its answer. Its count is the number of requests.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: BUCKETS_SECONDS,
    registers: [registry],
  });
  const events = new Counter({
    name: 'driftstack_stripe_events_total',
    help: 'Deliveries by Stripe, by what became of them at the door.',
    labelNames: ['result'] as const,
    registers: [registry],
  });
  new Gauge({
    name: 'driftstack_database_connections',
    help: 'Connections of this process to the database, and calls waiting for one.',
    labelNames: ['state'] as const,
    registers: [registry],
    collect() {
      this.set({ state: 'open' }, pool.totalCount);
      this.set({ state: 'idle' }, pool.idleCount);
      this.set({ state: 'waiting' }, pool.waitingCount);
    },
  });
  return {
    registry,
    countRequest(request, reply) {
      durations.observe(
        {
          method: request.method,
          // Never the path itself: strangers choose it, and each would become a series of its own.
          route: request.routeOptions.url ?? 'none',
          status: reply.statusCode,
        },
        reply.elapsedTime / 1000,
      );
    },
    countEvent: (result) => events.inc({ result }),
  };
}

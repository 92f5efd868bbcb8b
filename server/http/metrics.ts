import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type FiguresDeps, NOW, readFigures } from './figures.ts';
import { type DeliveryOutcome, watchWebhooks } from './webhook-metrics.ts';

export type Metrics = {
  /** For rooms that count something of their own. */
  readonly registry: Registry;
  countRequest(request: FastifyRequest, reply: FastifyReply): void;
  countEvent(result: 'stored' | 'duplicate' | 'ignored' | 'refused'): void;
  /** Events that were never delivered and have been fetched from Stripe. */
  countCaughtUp(events: number): void;
  /** Something that we held otherwise than Stripe, and that no event explains. */
  countDrift(kind: string): void;
  /** Something that a person has to look at. */
  countAlarm(kind: string): void;
  /** By how many seconds our clock was ahead of Stripe's at its last signed delivery. */
  setStripeClock(aheadSeconds: number): void;
  /** A try to deliver an event to a customer. */
  countDelivery(outcome: DeliveryOutcome): void;
};

const BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The figures of one app, in a registry of its own so that two apps in one process do not mix. */
export function createMetrics(deps: FiguresDeps): Metrics {
  const { pool } = deps.db;
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
  const caughtUp = new Counter({
    name: 'driftstack_stripe_events_caught_up_total',
    help: 'Events of Stripe that never arrived and were fetched by us.',
    registers: [registry],
  });
  const drift = new Counter({
    name: 'driftstack_stripe_drift_total',
    help: 'What we held otherwise than Stripe, by kind; found by comparing and repaired.',
    labelNames: ['kind'] as const,
    registers: [registry],
  });
  const alarms = new Counter({
    name: 'driftstack_stripe_alarms_total',
    help: 'What Stripe told us that a person has to look at, by kind.',
    labelNames: ['kind'] as const,
    registers: [registry],
  });
  const stripeClock = new Gauge({
    name: 'driftstack_stripe_clock_ahead_seconds',
    help: "How far this server's clock was ahead of the time at which Stripe signed its last delivery; beyond 300 either way all are refused. 0 before the first.",
    registers: [registry],
  });
  watchEvents(deps, registry);
  const { countDelivery } = watchWebhooks(deps, registry);
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
    countCaughtUp: (missed) => caughtUp.inc(missed),
    countDrift: (kind) => drift.inc({ kind }),
    countAlarm: (kind) => alarms.inc({ kind }),
    setStripeClock: (aheadSeconds) => stripeClock.set(aheadSeconds),
    countDelivery,
  };
}

/** What to be woken for: events that nobody processes, and events that were given up. Read at each scrape. */
function watchEvents(deps: FiguresDeps, registry: Registry): void {
  // Each figure reads for itself: one that another one sets would be a scrape behind.
  new Gauge({
    name: 'driftstack_stripe_event_oldest_seconds',
    help: 'Age of the oldest event of Stripe that has not been processed; 0 when none waits.',
    registers: [registry],
    async collect() {
      this.set((await readFigures(deps, UNSETTLED, UNKNOWN)).seconds);
    },
  });
  new Gauge({
    name: 'driftstack_stripe_events_unsettled',
    help: 'Events of Stripe that wait (received), and that were given up and wait for a person (dead).',
    labelNames: ['state'] as const,
    registers: [registry],
    async collect() {
      const { received, dead } = await readFigures(deps, UNSETTLED, UNKNOWN);
      this.set({ state: 'received' }, received);
      this.set({ state: 'dead' }, dead);
    },
  });
}

type Unsettled = { received: number; dead: number; seconds: number };
const UNKNOWN: Unsettled = { received: Number.NaN, dead: Number.NaN, seconds: Number.NaN };

// Each part has a partial index of its own.
const UNSETTLED = `select
  (select count(*) from stripe_event where state = 'received')::float8 as received,
  (select count(*) from stripe_event where state = 'dead')::float8 as dead,
  coalesce((select extract(epoch from ${NOW} - min(received_at)) from stripe_event where state = 'received'), 0)::float8 as seconds`;

import { Counter, Gauge, type Registry } from 'prom-client';
import { SLOW_MS } from '../database/entities/webhooks.ts';
import { type FiguresDeps, NOW, readFigures } from './figures.ts';

/** What became of one try to deliver. */
export type DeliveryOutcome = 'delivered' | 'failed' | 'dlq';

/** Counts this process's tries to deliver to customers, and reads at each scrape how all of them stand. */
export function watchWebhooks(
  deps: FiguresDeps,
  registry: Registry,
): { countDelivery(outcome: DeliveryOutcome): void } {
  const tries = new Counter({
    name: 'driftstack_webhook_deliveries_total',
    help: 'Tries to deliver an event to a customer: arrived (delivered), to be tried again (failed), given up (dlq).',
    labelNames: ['outcome'] as const,
    registers: [registry],
  });
  // Each figure reads for itself: one that another one sets would be a scrape behind.
  new Gauge({
    name: 'driftstack_webhook_delivery_oldest_seconds',
    help: 'How long the delivery that is due longest has waited; 0 when none is due. Endpoints whose last try failed, and those that answer slowly, stand apart: how long theirs wait is their own doing.',
    labelNames: ['endpoints'] as const,
    registers: [registry],
    async collect() {
      const { working, slow, failing } = await readFigures(deps, OLDEST, {
        working: NaN,
        slow: NaN,
        failing: NaN,
      });
      this.set({ endpoints: 'working' }, working);
      this.set({ endpoints: 'slow' }, slow);
      this.set({ endpoints: 'failing' }, failing);
    },
  });
  new Gauge({
    name: 'driftstack_webhook_deliveries_dead',
    help: 'Deliveries that were given up and wait to be replayed.',
    registers: [registry],
    async collect() {
      this.set((await readFigures(deps, DEAD, { count: NaN })).count);
    },
  });
  new Gauge({
    name: 'driftstack_webhook_endpoints_paused',
    help: 'Endpoints that are paused, by their owners or because they did not answer.',
    registers: [registry],
    async collect() {
      this.set((await readFigures(deps, PAUSED, { count: NaN })).count);
    },
  });
  return { countDelivery: (outcome) => tries.inc({ outcome }) };
}

/** Reads the endpoints that are due, longest first, until one fits: the deliveries themselves are not touched. */
const oldest = (which: string): string => `coalesce((
  select extract(epoch from ${NOW} - min(next_due_at)) from webhook_endpoint
   where active and deleted_at is null and next_due_at <= ${NOW}
     and (held_until is null or held_until <= ${NOW}) and ${which}), 0)::float8`;
const OLDEST = `select ${oldest(`consecutive_failures = 0 and pace_ms < ${SLOW_MS}`)} as working,
                       ${oldest(`consecutive_failures = 0 and pace_ms >= ${SLOW_MS}`)} as slow,
                       ${oldest('consecutive_failures > 0')} as failing`;
// Each has a partial index of its own.
const DEAD = "select count(*)::float8 as count from webhook_delivery where state = 'dlq'";
const PAUSED =
  'select count(*)::float8 as count from webhook_endpoint where not active and deleted_at is null';

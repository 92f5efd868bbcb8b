import { formatId } from '../../shared/ids.ts';
import type { WebhookDelivery } from '../../shared/webhook-deliveries.ts';
import type { WebhookEndpoint } from '../../shared/webhooks.ts';
import type { Database } from '../database/connection.ts';
import { BillingEvent } from '../database/entities/webhooks.ts';
import { listDeliveries } from './deliveries.ts';
import { listEndpoints } from './list-endpoints.ts';
import { eventBody } from './list-events.ts';

const SHOWN_DELIVERIES = 10;

export type InspectedEndpoint = WebhookEndpoint & {
  /** Newest first; the payload is null for a test. */
  readonly deliveries: readonly (WebhookDelivery & { readonly payload: object | null })[];
};

/** The endpoints of an account with their newest deliveries and what these carry, for a developer's console. */
export async function inspectWebhooks(
  db: Database,
  accountId: string,
  now: Date,
): Promise<InspectedEndpoint[]> {
  const deps = { db, clock: { now: () => now } };
  const { data } = await listEndpoints(deps, accountId, { limit: 100 });
  return await Promise.all(
    data.map(async (endpoint) => {
      const page = await listDeliveries(deps, accountId, { id: endpoint.id, limit: SHOWN_DELIVERIES });
      const payloads = await readPayloads(db, accountId, page.data);
      const deliveries = page.data.map((one) => ({ ...one, payload: payloads.get(one.event_id) ?? null }));
      return { ...endpoint, deliveries };
    }),
  );
}

async function readPayloads(
  db: Database,
  accountId: string,
  deliveries: readonly WebhookDelivery[],
): Promise<ReadonlyMap<string, object>> {
  const ids = deliveries.map(({ event_id }) => event_id.slice('evt_'.length));
  const events = await db.orm.em.fork().find(BillingEvent, { accountId, id: { $in: ids } });
  return new Map(events.map((event) => [formatId('evt', event.id), eventBody(event)]));
}

import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type {
  DeliveryListInput,
  DeliveryListResult,
  WebhookDelivery as WireDelivery,
} from '../../shared/webhook-deliveries.ts';
import type { Tx } from '../database/connection.ts';
import { decodeCursor, encodeCursor } from '../database/cursor.ts';
import { WebhookDelivery } from '../database/entities/webhooks.ts';
import { readId, type WebhookDeps } from './deps.ts';
import { readEndpoint, wireOrNull } from './list-endpoints.ts';

/** One page of the deliveries to an endpoint, newest first, those with one status if asked. */
export async function listDeliveries(
  deps: Pick<WebhookDeps, 'db' | 'clock'>,
  accountId: string,
  { id: wireId, limit, cursor, status }: DeliveryListInput,
): Promise<DeliveryListResult> {
  const endpointId = readId('whk', wireId);
  await readEndpoint(deps.db.orm.em.fork(), accountId, endpointId, deps.clock.now());
  // A cursor is good for the deliveries of one endpoint.
  const list = `deliveries:${endpointId}`;
  const rows = await deps.db.orm.em.fork().find(
    WebhookDelivery,
    {
      endpointId,
      ...(status !== undefined && { state: status }),
      ...(cursor !== undefined && { position: { $lt: decodeCursor(list, accountId, cursor) } }),
    },
    { orderBy: { position: 'desc' }, limit: limit + 1, disableIdentityMap: true },
  );
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    data: page.map(deliveryToWire),
    next_cursor: rows.length > limit && last ? encodeCursor(list, accountId, last.position) : null,
  };
}

/** One delivery of the account, by its uuid. Throws `not-found` for any other. */
export async function readDelivery(em: Tx, accountId: string, id: string): Promise<WireDelivery> {
  const delivery = await em.findOne(WebhookDelivery, { id, accountId }, { refresh: true });
  if (!delivery) throw noDelivery();
  return deliveryToWire(delivery);
}

export function noDelivery(): ProblemError {
  return new ProblemError('not-found', 'This account has no such webhook delivery.');
}

function deliveryToWire(delivery: WebhookDelivery): WireDelivery {
  return {
    id: formatId('wdl', delivery.id),
    endpoint_id: formatId('whk', delivery.endpointId),
    event_id: formatId('evt', delivery.eventId),
    event_type: delivery.eventType,
    status: delivery.state,
    replay_of: delivery.replayOf ? formatId('wdl', delivery.replayOf) : null,
    attempts: delivery.attempts,
    next_attempt_at: wireOrNull(delivery.nextAttemptAt),
    last_attempt_at: wireOrNull(delivery.lastAttemptAt),
    duration_ms: delivery.durationMs ?? null,
    response_status: delivery.responseStatus ?? null,
    response_excerpt: delivery.responseExcerpt ?? null,
    error: delivery.error ?? null,
    delivered_at: wireOrNull(delivery.deliveredAt),
    created_at: toWireTime(delivery.createdAt),
  };
}

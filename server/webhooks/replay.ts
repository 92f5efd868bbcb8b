import { ProblemError } from '../../shared/errors.ts';
import { TEST_EVENT_TYPE } from '../../shared/events.ts';
import { formatId } from '../../shared/ids.ts';
import {
  MAX_WAITING,
  REPLAY_PAGE,
  type ReplayInput,
  type ReplayResult,
  type WebhookDelivery as WireDelivery,
} from '../../shared/webhook-deliveries.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { BillingEvent, WebhookDelivery } from '../database/entities/webhooks.ts';
import { uuidv7 } from '../database/uuid.ts';
import { noDelivery, readDelivery } from './deliveries.ts';
import { actorOf, lockEndpoint, readId, type WebhookCaller, type WebhookDeps } from './deps.ts';
import { queueDeliveries } from './record-event.ts';
import { findUndone, sendAgain } from './send-again.ts';

/**
 * Sends a `test.ping` to an endpoint, signed and tried like any other delivery. Throws `bad-request` for one that is
 * paused: the test would wait with its events, and whoever asks for it waits for it now.
 */
export async function testEndpoint(
  deps: WebhookDeps,
  { accountId }: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<WireDelivery> {
  const endpointId = readId('whk', wireId);
  const now = deps.clock.now();
  const id = uuidv7(now);
  return await deps.commit(accountId, async (tx) => {
    const { endpoint, position } = await lockEndpoint(tx, accountId, endpointId);
    if (!endpoint.active) throw paused();
    await requireRoom(tx, endpointId);
    const ping = { eventId: uuidv7(now), eventType: TEST_EVENT_TYPE };
    const end = position + 1;
    await queueDeliveries(tx, { accountId, endpointId, end }, [{ id, position: end, ...ping }], now);
    return await readDelivery(tx, accountId, id);
  });
}

/**
 * Sends what a delivery carried once more, under the same event id. One that failed or was given up begins anew
 * itself: it leaves the dead-letter queue, and no other try of it is left behind. One that arrived stays what it
 * is, and a new one repeats it. What is on its way already is not sent a second time, so a call that is repeated
 * changes nothing. A paused endpoint gets it once it is active again, as it gets its events.
 */
export async function replayDelivery(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<WireDelivery> {
  const { accountId } = caller;
  const replayOf = readId('wdl', wireId);
  const now = deps.clock.now();
  return await deps.commit(accountId, async (tx) => {
    const asked = await tx.findOne(WebhookDelivery, { id: replayOf, accountId });
    if (!asked) throw noDelivery();
    const { endpointId, eventId, eventType } = asked;
    const { position } = await lockEndpoint(tx, accountId, endpointId, endpointDeleted);
    const [undone] = await findUndone(tx, endpointId, [eventId]);
    if (undone?.state === 'pending' || undone?.state === 'in_flight') {
      return await readDelivery(tx, accountId, undone.id);
    }
    const sent = undone?.id ?? uuidv7(now);
    if (undone) await sendAgain(tx, endpointId, [{ ...undone, position: null }], now);
    else {
      await requireRoom(tx, endpointId);
      const end = position + 1;
      const copy = { id: sent, position: end, eventId, eventType, replayOf };
      await queueDeliveries(tx, { accountId, endpointId, end }, [copy], now);
    }
    await append(tx, {
      accountId,
      action: 'webhook_delivery.replayed',
      targetResourceId: formatId('wdl', replayOf),
      payload: { delivery_id: formatId('wdl', sent), request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_delivery.replayed:${uuidv7(now)}`,
      now,
    });
    return await readDelivery(tx, accountId, sent);
  });
}

/**
 * Sends the next 500 events after a sequence number once more that the endpoint is for now, in order, and says
 * where to go on. Deliveries of them that failed or were given up begin anew; what is on its way is left alone.
 * Throws `conflict` while too many deliveries wait.
 */
export async function replayEvents(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId, after }: ReplayInput,
): Promise<ReplayResult> {
  const { accountId } = caller;
  const endpointId = readId('whk', wireId);
  const now = deps.clock.now();
  return await deps.commit(accountId, async (tx) => {
    const { endpoint, position: start } = await lockEndpoint(tx, accountId, endpointId);
    const limit = Math.min(REPLAY_PAGE, await requireRoom(tx, endpointId));
    const found = await tx.find(
      BillingEvent,
      { accountId, type: { $in: endpoint.events }, sequence: { $gt: after } },
      { orderBy: { sequence: 'asc' }, limit: limit + 1, exclude: ['data'], disableIdentityMap: true },
    );
    const events = found.slice(0, limit);
    const undone = await findUndone(
      tx,
      endpointId,
      events.map(({ id }) => id),
    );
    const known = new Map(undone.map((delivery) => [delivery.eventId, delivery]));
    const placed = events
      .map(({ id: eventId, type: eventType }) => ({ eventId, eventType, old: known.get(eventId) }))
      .filter(({ old }) => old?.state !== 'pending' && old?.state !== 'in_flight')
      .map((one, index) => ({ ...one, position: start + index + 1 }));
    const again = placed.flatMap(({ old, position }) => (old ? [{ ...old, position }] : []));
    const copies = placed.flatMap(({ old, ...copy }) => (old ? [] : [copy]));
    await sendAgain(tx, endpointId, again, now);
    const end = start + placed.length;
    if (placed.length > 0) await queueDeliveries(tx, { accountId, endpointId, end }, copies, now);
    await append(tx, {
      accountId,
      action: 'webhook_delivery.replayed',
      targetResourceId: formatId('whk', endpointId),
      payload: { after, deliveries: placed.length, request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_delivery.replayed:${endpointId}:${uuidv7(now)}`,
      now,
    });
    const last = found.length > limit ? events.at(-1) : undefined;
    return { deliveries: placed.length, next_after: last?.sequence ?? null };
  });
}

const endpointDeleted = () =>
  new ProblemError(
    'not-found',
    'The endpoint of this delivery was deleted, so nothing can be sent to it. Its event is in GET /v1/billing/events.',
  );

const paused = () =>
  new ProblemError(
    'bad-request',
    'This endpoint is paused, so nothing is sent to it. Set it to `active: true` first, with PATCH /v1/webhooks/{id}.',
    { code: 'webhook_endpoint_paused' },
  );

/** How many more deliveries may be asked for; throws where there is no room for one. Events always find room. */
async function requireRoom(tx: Tx, endpointId: string): Promise<number> {
  const [row] = await tx.execute<{ count: number }[]>(
    `select count(*)::int as count from (
       select 1 from webhook_delivery
        where endpoint_id = ? and state in ('pending', 'in_flight', 'failed') limit ?) waiting`,
    [endpointId, MAX_WAITING],
  );
  const room = MAX_WAITING - (row?.count ?? 0);
  if (room > 0) return room;
  throw new ProblemError(
    'conflict',
    `${MAX_WAITING} deliveries to this endpoint wait already. Try again when some of them have been sent.`,
    { code: 'too_many_deliveries_waiting' },
  );
}

import { TEST_EVENT_TYPE } from '../../shared/events.ts';
import { formatId } from '../../shared/ids.ts';
import type {
  ReplayInput,
  ReplayResult,
  WebhookDelivery as WireDelivery,
} from '../../shared/webhook-deliveries.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { BillingEvent, WebhookDelivery } from '../database/entities/webhooks.ts';
import { uuidv7 } from '../database/uuid.ts';
import { noDelivery, readDelivery } from './deliveries.ts';
import { actorOf, lockEndpoint, readId, type WebhookCaller, type WebhookDeps } from './deps.ts';
import { queueDeliveries } from './record-event.ts';

/** Sends a `test.ping` to an endpoint, signed and tried like any other delivery. */
export async function testEndpoint(
  deps: WebhookDeps,
  { accountId }: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<WireDelivery> {
  const endpointId = readId('whk', wireId);
  const now = deps.clock.now();
  const id = uuidv7(now);
  await deps.db.transactionOn(accountId, async (tx) => {
    const { position } = await lockEndpoint(tx, accountId, endpointId);
    const ping = { eventId: uuidv7(now), eventType: TEST_EVENT_TYPE };
    await moveTo(tx, accountId, position + 1);
    await queueDeliveries(tx, [{ id, accountId, endpointId, position: position + 1, ...ping }], now);
  });
  return await readDelivery(deps, accountId, id);
}

/** Sends what a delivery carried once more, whatever became of it, as a new delivery with the same event id. */
export async function replayDelivery(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<WireDelivery> {
  const { accountId } = caller;
  const replayOf = readId('wdl', wireId);
  const now = deps.clock.now();
  const id = uuidv7(now);
  await deps.db.transactionOn(accountId, async (tx) => {
    const old = await tx.findOne(WebhookDelivery, { id: replayOf, accountId });
    if (!old) throw noDelivery();
    const { endpointId, eventId, eventType } = old;
    const { position } = await lockEndpoint(tx, accountId, endpointId);
    await moveTo(tx, accountId, position + 1);
    const copy = { id, accountId, endpointId, position: position + 1, eventId, eventType, replayOf };
    await queueDeliveries(tx, [copy], now);
    await append(tx, {
      accountId,
      action: 'webhook_delivery.replayed',
      targetResourceId: formatId('wdl', replayOf),
      payload: { delivery_id: formatId('wdl', id), request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_delivery.replayed:${id}`,
      now,
    });
  });
  return await readDelivery(deps, accountId, id);
}

/** How many events one statement reads and one writes. */
const PAGE = 500;

/** Sends every event after a sequence number once more that the endpoint is for now, in order. */
export async function replayEvents(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId, after }: ReplayInput,
): Promise<ReplayResult> {
  const { accountId } = caller;
  const endpointId = readId('whk', wireId);
  const now = deps.clock.now();
  const deliveries = await deps.db.transactionOn(accountId, async (tx) => {
    const { endpoint, position: start } = await lockEndpoint(tx, accountId, endpointId);
    let position = start;
    for await (const events of eventsAfter(tx, accountId, endpoint.events, after)) {
      const copies = events.map(({ id: eventId, type: eventType }, index) => ({
        accountId,
        endpointId,
        position: position + index + 1,
        eventId,
        eventType,
      }));
      await queueDeliveries(tx, copies, now);
      position += events.length;
    }
    await moveTo(tx, accountId, position);
    await append(tx, {
      accountId,
      action: 'webhook_delivery.replayed',
      targetResourceId: formatId('whk', endpointId),
      payload: { after, deliveries: position - start, request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_delivery.replayed:${endpointId}:${uuidv7(now)}`,
      now,
    });
    return position - start;
  });
  return { deliveries };
}

async function* eventsAfter(tx: Tx, accountId: string, types: BillingEvent['type'][], after: number) {
  for (let sequence = after; ; ) {
    const page = await tx.find(
      BillingEvent,
      { accountId, type: { $in: types }, sequence: { $gt: sequence } },
      { orderBy: { sequence: 'asc' }, limit: PAGE, exclude: ['data'], disableIdentityMap: true },
    );
    if (page.length > 0) yield page;
    const last = page.at(-1);
    if (!last || page.length < PAGE) return;
    sequence = last.sequence;
  }
}

async function moveTo(tx: Tx, accountId: string, webhookPosition: number): Promise<void> {
  await tx.nativeUpdate(Account, { id: accountId }, { webhookPosition });
}

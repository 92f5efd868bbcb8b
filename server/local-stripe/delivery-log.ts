import { randomBytes } from 'node:crypto';
import type Stripe from 'stripe';
import { resourceMissing } from './errors.ts';
import { takeWebhookFault, type WebhookFault } from './webhook-faults.ts';
import type { World } from './world.ts';

/** One event on its way to one endpoint, with every try so far. */
export interface Delivery {
  readonly id: string;
  readonly endpoint: string;
  readonly event: string;
  readonly type: string;
  /** `dropped` was ordered by a fault: Stripe would have lost it. */
  readonly status: 'pending' | 'succeeded' | 'failed' | 'dropped';
  /** Unix seconds of the local Stripe's clock. */
  readonly created: number;
  /** When the next try is due, in milliseconds of the local Stripe's clock; null when there is none. */
  readonly dueMs: number | null;
  readonly fault: WebhookFault['kind'] | null;
  readonly tries: readonly Try[];
}

export interface Try {
  /** Unix seconds of real time, as in the signature. */
  readonly at: number;
  readonly status: number | null;
  readonly body: string | null;
  readonly error: string | null;
  readonly durationMs: number;
}

const KEPT_FINISHED = 10_000;

/** Writes the deliveries an event asks for, in the event's own transaction; answers them in order. */
export function recordDeliveries(world: World, event: Stripe.Event, nowMs: number): readonly Delivery[] {
  const deliveries: Delivery[] = [];
  // The store is keyed by kind, so what is found under a kind has its type.
  for (const endpoint of world.store.oldestFirst('webhook_endpoint') as Iterable<Stripe.WebhookEndpoint>) {
    if (endpoint.status !== 'enabled' || !wants(endpoint, event.type)) continue;
    const fault = takeWebhookFault(world, event.type);
    const made = newDelivery(world, endpoint.id, event, nowMs, fault);
    deliveries.push(made);
    if (fault?.kind === 'duplicate') deliveries.push(newDelivery(world, endpoint.id, event, nowMs, fault));
  }
  return deliveries;
}

/** Writes one more delivery of an event to an endpoint. */
export function newDelivery(
  world: World,
  endpoint: string,
  event: Stripe.Event,
  nowMs: number,
  fault: WebhookFault | null,
): Delivery {
  const heldMs = fault?.kind === 'delay' ? fault.seconds * 1_000 : fault?.kind === 'reorder' ? 10_000 : 0;
  const delivery: Delivery = {
    id: `dlv_${randomBytes(10).toString('hex')}`,
    endpoint,
    event: event.id,
    type: event.type,
    status: fault?.kind === 'drop' ? 'dropped' : 'pending',
    created: world.now(),
    dueMs: fault?.kind === 'drop' ? null : nowMs + heldMs,
    fault: fault?.kind ?? null,
    tries: [],
  };
  putDelivery(world, delivery);
  return delivery;
}

export function putDelivery(world: World, delivery: Delivery): void {
  world.hidden.put('delivery', delivery.id, delivery);
}

export function findDelivery(world: World, id: string): Delivery | undefined {
  return world.hidden.get<Delivery>('delivery', id);
}

/** The delivery, or 404. */
export function getDelivery(world: World, id: string): Delivery {
  const found = findDelivery(world, id);
  if (!found) throw resourceMissing('delivery', id);
  return found;
}

/** Deliveries newest first, optionally of one event, endpoint or status. */
export function listDeliveries(
  world: World,
  filter: {
    readonly event?: string | undefined;
    readonly endpoint?: string | undefined;
    readonly status?: Delivery['status'] | undefined;
    readonly limit: number;
  },
): readonly Delivery[] {
  const found: Delivery[] = [];
  for (const box of world.store.newestFirst('hidden.delivery')) {
    const delivery = findDelivery(world, box.id);
    if (
      delivery === undefined ||
      (filter.event !== undefined && delivery.event !== filter.event) ||
      (filter.endpoint !== undefined && delivery.endpoint !== filter.endpoint) ||
      (filter.status !== undefined && delivery.status !== filter.status)
    )
      continue;
    found.push(delivery);
    if (found.length >= filter.limit) break;
  }
  return found;
}

/** Forgets the oldest finished deliveries beyond the last 10,000. */
export function forgetOldDeliveries(world: World): void {
  let excess = world.store.count('hidden.delivery') - KEPT_FINISHED;
  if (excess <= 0) return;
  world.atomically(() => {
    for (const { id, value } of world.hidden.all<Delivery>('delivery')) {
      if (excess <= 0) return;
      if (value.status === 'pending') continue;
      world.hidden.remove('delivery', id);
      excess--;
    }
  });
}

function wants(endpoint: Stripe.WebhookEndpoint, type: string): boolean {
  return endpoint.enabled_events.includes('*') || endpoint.enabled_events.includes(type);
}

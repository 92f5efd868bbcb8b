import type Stripe from 'stripe';
import {
  type Delivery,
  findDelivery,
  forgetOldDeliveries,
  getDelivery,
  listDeliveries,
  newDelivery,
  putDelivery,
  recordDeliveries,
} from './delivery-log.ts';
import { type PostWebhook, signature, type TryOutcome, webhookPoster } from './webhook-request.ts';
import type { World } from './world.ts';

/** Seconds from one try to the next: quick ones for people who watch, then hours, three days in all. */
export const RETRY_AFTER_SECONDS: readonly number[] = [
  1, 5, 30, 300, 3_600, 10_800, 21_600, 43_200, 86_400, 86_400,
];

const TIMEOUT_MS = 10_000;
const PER_ENDPOINT = 8;
const SOON_MS = 1_000;
const LOOKED_THROUGH = 1_000;

export interface Deliveries {
  /** Sends what is due. To be called when the local Stripe's clock was moved. */
  pump(): void;
  /** Sends a delivery once more, now, whatever became of it. Throws 404 for an unknown one. */
  resend(id: string): Delivery;
  /** Sends an event to an endpoint once more. */
  sendAgain(event: Stripe.Event, endpoint: string): Delivery;
  /** How many deliveries of an event have not succeeded yet. */
  pendingFor(event: string): number;
  /** Deliveries that are under way, due, or tried again within a second; a later retry does not count. */
  busy(): number;
  /** How many deliveries since then, in unix seconds of the local Stripe's clock, have not succeeded. */
  missedSince(from: number): number;
  /** Drops what is planned, after the world was reset. */
  forget(): void;
  /** Stops; what is pending stays on disk and goes on with the next start. */
  close(): void;
}

/**
 * Delivers events to webhook endpoints, signed, at least once. Deliveries are on disk exactly when their event is,
 * so that a killed process loses none. One endpoint's events start in order, eight at a time, so that one that
 * fails or hangs does not hold up the others.
 */
export function deliverWebhooks(
  world: World,
  options: {
    readonly clock: () => number;
    readonly onFailure: (error: unknown) => void;
    readonly post?: PostWebhook;
  },
): Deliveries {
  const { clock } = options;
  const poster = webhookPoster(TIMEOUT_MS);
  const post = options.post ?? poster.post;
  /** Milliseconds of the local Stripe's clock: real time plus what was skipped. */
  const nowMs = (): number => clock() + (world.now() - Math.floor(clock() / 1_000)) * 1_000;

  const recorded = new WeakMap<Stripe.Event, readonly Delivery[]>();
  const lanes = new Map<string, { ready: string[]; inFlight: Set<string> }>();
  const waiting = new Map<string, { dueMs: number; endpoint: string; heldBack: boolean }>();
  const unsettled = new Map<string, number>();
  let alarm: NodeJS.Timeout | null = null;
  let settled = 0;
  let closed = false;

  const laneOf = (endpoint: string) => {
    let lane = lanes.get(endpoint);
    if (!lane) {
      lane = { ready: [], inFlight: new Set() };
      lanes.set(endpoint, lane);
    }
    return lane;
  };

  const count = (event: string, by: 1 | -1): void => {
    const next = (unsettled.get(event) ?? 0) + by;
    if (next > 0) unsettled.set(event, next);
    else unsettled.delete(event);
  };

  const schedule = ({ id, endpoint, dueMs, fault }: Delivery): void => {
    if (dueMs === null) return;
    if (dueMs <= nowMs()) laneOf(endpoint).ready.push(id);
    else waiting.set(id, { dueMs, endpoint, heldBack: fault === 'reorder' });
  };

  const pump = (): void => {
    if (closed) return;
    const now = nowMs();
    for (const [id, { dueMs, endpoint }] of waiting) {
      if (dueMs > now) continue;
      waiting.delete(id);
      laneOf(endpoint).ready.push(id);
    }
    for (const lane of lanes.values()) {
      while (lane.inFlight.size < PER_ENDPOINT) {
        const id = lane.ready.shift();
        if (id === undefined) break;
        if (lane.inFlight.has(id)) continue;
        lane.inFlight.add(id);
        // What fails here is a defect of ours: it is reported, and the delivery stays pending for the next start.
        void attempt(id)
          .catch(options.onFailure)
          .finally(() => {
            lane.inFlight.delete(id);
            pump();
          });
      }
    }
    if (alarm) clearTimeout(alarm);
    let next = Number.POSITIVE_INFINITY;
    for (const { dueMs } of waiting.values()) next = Math.min(next, dueMs);
    // Not more often than ten times a second, and a timer cannot wait longer than 24 days.
    alarm = Number.isFinite(next)
      ? setTimeout(pump, Math.min(Math.max(next - now, 100), 86_400_000)).unref()
      : null;
  };

  const attempt = async (id: string): Promise<void> => {
    const delivery = findDelivery(world, id);
    const event = delivery && world.find('event', delivery.event);
    const endpoint = delivery && world.find('webhook_endpoint', delivery.endpoint);
    if (delivery?.status !== 'pending') return;
    if (!event || endpoint?.status !== 'enabled')
      return settle(
        delivery,
        { status: null, body: null, error: 'the endpoint is disabled or gone' },
        0,
        false,
      );
    const secret = world.hidden.get<{ secret: string }>('webhook_secret', endpoint.id)?.secret ?? '';
    const body = JSON.stringify({
      ...event,
      api_version: endpoint.api_version ?? event.api_version,
      pending_webhooks: Math.max(unsettled.get(event.id) ?? 0, 1),
    });
    const began = clock();
    const spoiled = delivery.fault === 'bad_signature' && delivery.tries.length === 0;
    const outcome = await post(
      endpoint.url,
      {
        'content-type': 'application/json; charset=utf-8',
        'cache-control': 'no-cache',
        'user-agent': 'Stripe/1.0 (local-stripe)',
        accept: '*/*; q=0.5, application/xml',
        'stripe-signature': signature(spoiled ? `${secret}x` : secret, body, Math.floor(began / 1_000)),
      },
      body,
    );
    if (!closed) settle(delivery, outcome, clock() - began, true);
  };

  const settle = (before: Delivery, outcome: TryOutcome, durationMs: number, retry: boolean): void => {
    const current = findDelivery(world, before.id);
    // Gone with a reset while the try was under way.
    if (!current) return;
    const tries = [...current.tries, { at: Math.floor(clock() / 1_000), ...outcome, durationMs }];
    const ok = outcome.status !== null && outcome.status >= 200 && outcome.status < 300;
    const wait = RETRY_AFTER_SECONDS[tries.length - 1];
    const again = !ok && retry && wait !== undefined;
    const after: Delivery = {
      ...current,
      tries,
      status: ok ? 'succeeded' : again ? 'pending' : 'failed',
      dueMs: again ? nowMs() + wait * 1_000 : null,
    };
    // After a kill it may be sent once more, as Stripe may too; so the disk need not be waited for each time.
    world.store.soon(() => putDelivery(world, after));
    if (ok) count(after.event, -1);
    schedule(after);
    if (!again) release(after.endpoint);
    if (++settled % 1_000 === 0) forgetOldDeliveries(world);
  };

  /** A later event has arrived: what a fault held back may follow. */
  const release = (endpoint: string): void => {
    for (const [id, held] of waiting) {
      if (!held.heldBack || held.endpoint !== endpoint) continue;
      waiting.delete(id);
      laneOf(endpoint).ready.push(id);
    }
  };

  world.withEvent((event) => void recorded.set(event, recordDeliveries(world, event, nowMs())));
  world.onEvent((event) => {
    for (const delivery of recorded.get(event) ?? []) {
      if (delivery.status === 'pending') count(event.id, 1);
      schedule(delivery);
    }
    pump();
  });
  for (const { value } of world.hidden.all<Delivery>('delivery')) {
    if (value.status === 'pending' || value.status === 'failed') count(value.event, 1);
    if (value.status === 'pending') schedule(value);
  }
  pump();

  return {
    pump,
    resend(id) {
      const delivery = getDelivery(world, id);
      waiting.delete(id);
      if (delivery.status === 'succeeded' || delivery.status === 'dropped') count(delivery.event, 1);
      const again: Delivery = { ...delivery, status: 'pending', dueMs: nowMs() };
      putDelivery(world, again);
      schedule(again);
      setImmediate(pump);
      return again;
    },
    sendAgain(event, endpoint) {
      const delivery = newDelivery(world, endpoint, event, nowMs(), null);
      count(event.id, 1);
      schedule(delivery);
      setImmediate(pump);
      return delivery;
    },
    pendingFor: (event) => unsettled.get(event) ?? 0,
    busy() {
      let busy = 0;
      for (const lane of lanes.values()) busy += lane.ready.length + lane.inFlight.size;
      const soon = nowMs() + SOON_MS;
      for (const { dueMs, heldBack } of waiting.values()) if (dueMs <= soon && !heldBack) busy += 1;
      return busy;
    },
    missedSince: (from) =>
      listDeliveries(world, { limit: LOOKED_THROUGH }).filter(
        ({ created, status }) => created >= from && status !== 'succeeded',
      ).length,
    forget() {
      waiting.clear();
      unsettled.clear();
      for (const lane of lanes.values()) lane.ready = [];
    },
    close() {
      closed = true;
      if (alarm) clearTimeout(alarm);
      poster.close();
    },
  };
}

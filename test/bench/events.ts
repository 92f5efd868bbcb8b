import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { Child } from './child.ts';
import { type LoadResult, load, requestBytes, times } from './load.ts';
import { startLocalStripe } from './local-stripe.ts';
import type { Bench } from './section.ts';
import { retold } from './virtual.ts';

export const WEBHOOK_SECRET = 'whsec_bench';
/** Far more than so few events need. */
const SETTLE_DEADLINE_MS = 300_000;

/** A Stripe that answers at once about as many customers as are wanted, each with a subscription. */
export type Customers = {
  readonly priceId: string;
  /** The ids of the customer with this number, from 1. */
  of(number: number): { readonly id: string; readonly customer: string };
  /** A new event about the subscription of this customer, of the size Stripe sends, and its bytes. */
  eventAbout(number: number): Buffer;
  /** Starts a Stripe that knows them all, so far away. */
  startEcho(delayMs: number): Promise<Child>;
  close(): Promise<void>;
};

export async function openCustomers(bench: Bench): Promise<Customers> {
  const stripe = await startLocalStripe(bench);
  const { id: customer } = await stripe.sdk.customers.create({
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  const subscription = await stripe.sdk.subscriptions.create({ customer, items: [{ price: stripe.price }] });
  const object = JSON.stringify(subscription);
  return {
    priceId: stripe.price,
    of: (number) => ({ id: retold(subscription.id, number), customer: retold(customer, number) }),
    eventAbout(number) {
      const event = {
        id: `evt_bench${randomBytes(12).toString('hex')}`,
        object: 'event',
        api_version: '2026-01-28',
        created: Math.floor(Date.now() / 1_000),
        data: { object: JSON.parse(retold(object, number)), previous_attributes: { status: 'incomplete' } },
        livemode: false,
        pending_webhooks: 1,
        request: { id: null, idempotency_key: null },
        type: 'customer.subscription.updated',
      };
      return Buffer.from(JSON.stringify(event, null, 2));
    },
    startEcho: (delayMs) => bench.startChild('stripe-echo', { stripeUrl: stripe.child.url, delayMs }),
    close: () => stripe.child.close(),
  };
}

export type Door = { readonly url: string; readonly path: string };

/** Delivers signed events at a door of Stripe's, each once, and waits for every answer. */
export async function deliver(
  { url, path }: Door,
  events: readonly Buffer[],
  connections: number,
): Promise<LoadResult> {
  const time = Math.floor(Date.now() / 1_000);
  const requests = events.map((body) => {
    const signature = createHmac('sha256', WEBHOOK_SECRET).update(`${time}.`).update(body).digest('hex');
    return requestBytes({
      method: 'POST',
      path,
      headers: { 'content-type': 'application/json', 'stripe-signature': `t=${time},v1=${signature}` },
      body: body.toString('utf8'),
    });
  });
  return await load({ url, connections, next: times(requests.length, requests) });
}

/** Lets a worker settle what is delivered and nothing else: it would also fetch what Stripe has told nobody. */
export async function keepFromLooking(client: Client): Promise<void> {
  await client.query(`insert into recurring_task (name, next_run_at, progress)
    select name, now() + interval '1 day', 'null' from unnest(array['stripe-catch-up', 'stripe-sweep']) as name`);
}

/** Waits until all events are carried out, of which there are so many, and answers how long that took after `startedAt`. */
export async function untilSettled(
  client: Client,
  events: number,
  { startedAt, pauseMs = 10 }: { startedAt: number; pauseMs?: number },
): Promise<number> {
  for (;;) {
    const { rows } = await client.query<{ open: number }>({
      name: 'bench-open',
      text: "select count(*)::int as open from stripe_event where state = 'received'",
    });
    const seconds = (performance.now() - startedAt) / 1_000;
    if (rows[0]?.open === 0) {
      const { rows: states } = await client.query<{ done: number }>(
        "select count(*)::int as done from stripe_event where state = 'done'",
      );
      if (states[0]?.done !== events)
        throw new Error(`only ${states[0]?.done} of ${events} events were carried out`);
      return seconds;
    }
    if (seconds * 1_000 > SETTLE_DEADLINE_MS) throw new Error(`${rows[0]?.open} events did not settle`);
    await sleep(pauseMs);
  }
}

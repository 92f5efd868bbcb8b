import type Stripe from 'stripe';
import { onTestFinished } from 'vitest';
import { changeSubscription, NO_CHANGE } from '../../billing/change.ts';
import { registerBilling } from '../../billing/lifecycle.ts';
import { startSubscription } from '../../billing/start.ts';
import { createPrice } from '../../catalogue.ts';
import { openWorld } from '../../open-world.ts';
import {
  attachPaymentMethod,
  createTestPaymentMethod,
  registerPaymentMethods,
} from '../../payment-methods.ts';
import { registerPayments } from '../../payments.ts';
import { createCustomer } from '../../resources/customers.ts';
import type { World } from '../../world.ts';

/** A world with billing on a clock that only `travel` moves, and everything it told. */
export function billingWorld(startsAt: string) {
  const clock = { ms: Date.parse(startsAt) };
  const world = openWorld({ path: ':memory:', clock: () => clock.ms });
  onTestFinished(() => world.close());
  registerPayments(world);
  registerPaymentMethods(world);
  registerBilling(world);
  const events: Stripe.Event[] = [];
  world.onEvent((event) => events.push(event));
  return {
    world,
    events,
    /** Lets everything due until then happen, with the clock standing there afterwards. */
    travel(to: string): void {
      world.runUntil(seconds(to), null);
      clock.ms = Date.parse(to);
    },
    /** The types told since the last call. */
    told(): string[] {
      return events.splice(0).map(({ type }) => type);
    },
  };
}

/** Unix seconds of an ISO time. */
export const seconds = (iso: string): number => Date.parse(iso) / 1000;

/** ISO time of unix seconds, to the minute. */
export const iso = (at: number): string => new Date(at * 1000).toISOString().slice(0, 16);

export function price(
  world: World,
  cents: number,
  interval: 'day' | 'week' | 'month' | 'year' = 'month',
  lookupKey?: string,
): Stripe.Price {
  return createPrice(world, {
    currency: 'usd',
    unit_amount: cents,
    recurring: { interval },
    product_data: { name: `Plan at ${cents}` },
    ...(lookupKey === undefined ? {} : { lookup_key: lookupKey }),
  });
}

/** A customer whose default payment method is the test card of that alias, or who has none. */
export function customer(world: World, alias: string | null = 'pm_card_visa'): string {
  const { id } = createCustomer(world, { email: 'jo@example.test' });
  if (alias !== null) giveCard(world, id, alias);
  return id;
}

/** Makes another test card the customer's default for invoices. */
export function giveCard(world: World, id: string, alias: string): string {
  const method = createTestPaymentMethod(world, { pmAlias: alias });
  attachPaymentMethod(world, method.id, id);
  const found = world.get('customer', id);
  if (found.deleted) throw new Error('the customer is deleted');
  world.change('customer', id, {
    invoice_settings: { ...found.invoice_settings, default_payment_method: method.id },
  });
  return method.id;
}

export function subscribe(
  world: World,
  to: Stripe.Price,
  options: {
    customer?: string;
    trialEnd?: string;
    quantity?: number;
    fields?: Partial<Stripe.Subscription>;
  } = {},
): Stripe.Subscription {
  return startSubscription(world, {
    customer: options.customer ?? customer(world),
    items: [{ price: to, quantity: options.quantity ?? 1, metadata: {} }],
    once: [],
    trialEnd: options.trialEnd === undefined ? null : seconds(options.trialEnd),
    billingCycleAnchor: null,
    prorate: true,
    paymentBehavior: 'allow_incomplete',
    offSession: false,
    paidBy: null,
    fields: options.fields ?? {},
  });
}

/** Changes the first item's price (and quantity). */
export function changeTo(
  world: World,
  id: string,
  to: Stripe.Price,
  prorationBehavior: 'create_prorations' | 'always_invoice' | 'none' = 'create_prorations',
  quantity = 1,
): Stripe.Subscription {
  const item = world.get('subscription', id).items.data[0];
  return changeSubscription(world, id, {
    ...NO_CHANGE,
    items: [{ id: item?.id ?? null, price: to, quantity, metadata: null, deleted: false }],
    prorationBehavior,
  });
}

/** The subscription's present period as `from..to`. */
export function period(subscription: Stripe.Subscription): string {
  const item = subscription.items.data[0];
  return item ? `${iso(item.current_period_start)}..${iso(item.current_period_end)}` : '';
}

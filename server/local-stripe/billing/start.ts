import type Stripe from 'stripe';
import { methodTypesIn } from '../bank-accounts.ts';
import { invalidRequest, StripeError } from '../errors.ts';
import { createPaymentIntent } from '../payment-intent-object.ts';
import { confirmPaymentIntent, declineError } from '../payments.ts';
import type { World } from '../world.ts';
import { collectInvoice, customerPaymentMethod, noteAttempt } from './collect.ts';
import { clockOfCustomer, customerIfAlive, idOf } from './customers.ts';
import { following } from './in-flight.ts';
import { addInvoiceItem, lineOfItem, pendingItems } from './invoice-items.ts';
import { paymentDescription } from './invoice-payments.ts';
import { createInvoice, finalizeInvoice } from './invoices.ts';
import { type DraftLine, periodLine } from './lines.ts';
import { boundary, type Period, periodAt } from './periods.ts';
import { priceAmount, productName, recurrenceOf } from './prices.ts';
import { prorate } from './proration.ts';
import { billingSettings } from './settings.ts';
import { itemList, newItem, subscriptionObject, type WantedItem } from './subscription-object.ts';
import { arm } from './timers.ts';

export interface NewSubscription {
  readonly customer: string;
  readonly items: readonly WantedItem[];
  /** One-time prices billed on the first invoice alone. */
  readonly once: readonly WantedItem[];
  /** Unix seconds; null for none. */
  readonly trialEnd: number | null;
  readonly billingCycleAnchor: number | null;
  readonly prorate: boolean;
  readonly paymentBehavior: 'allow_incomplete' | 'default_incomplete' | 'error_if_incomplete';
  readonly offSession: boolean;
  /** A payment intent already confirmed for exactly what is due, as Checkout does before it subscribes. */
  readonly paidBy: string | null;
  /** Anything else that is simply kept: metadata, description, default payment method, cancellation … */
  readonly fields: Partial<Stripe.Subscription>;
}

/** What the first invoice of such a subscription would come to, in minor units, before customer balance. */
export function firstAmount(given: Pick<NewSubscription, 'items' | 'trialEnd'>): number {
  if (given.trialEnd !== null) return 0;
  return given.items.reduce((sum, item) => sum + priceAmount(item.price, item.quantity), 0);
}

/**
 * Creates a subscription with its first invoice and asks for the money. Throws 402 only with
 * `error_if_incomplete`; otherwise an unpaid one is `incomplete` and expires after 23 hours.
 */
export function startSubscription(world: World, given: NewSubscription): Stripe.Subscription {
  const id = world.newId('subscription');
  const invoiceId = world.newId('invoice');
  const clock = clockOfCustomer(world, given.customer);
  const now = world.now(clock);
  const trialing = given.trialEnd !== null && given.trialEnd > now;
  const anchor = trialing ? (given.trialEnd ?? now) : (given.billingCycleAnchor ?? now);
  const items = given.items.map((wanted) =>
    newItem(world, id, wanted, firstPeriod(anchor, wanted.price, now, trialing), now),
  );
  // What Checkout has charged was agreed on its page; other pending items wait for the next invoice.
  const pending = given.paidBy === null ? pendingItems(world, given.customer, null) : [];
  const once = given.once.map((wanted) =>
    addInvoiceItem(world, given.customer, onceLine(world, id, wanted, now)),
  );
  const lines = [
    ...items.map((item) => firstLine(world, item, anchor, now, trialing, given.prorate)),
    ...[...once, ...pending].map((item) => lineOfItem(world, item)),
  ];
  const subscription = subscriptionObject({
    collection_method: 'charge_automatically',
    ...given.fields,
    id,
    billing_cycle_anchor: anchor,
    created: now,
    currency: given.items[0]?.price.currency ?? 'usd',
    customer: given.customer,
    items: itemList(id, items),
    latest_invoice: invoiceId,
    status: 'incomplete',
    test_clock: clock,
    ...(trialing ? { trial_start: now, trial_end: anchor } : {}),
  });
  const total = lines.reduce((sum, line) => sum + line.amountCents, 0);
  const due = Math.max(0, total + (customerIfAlive(world, given.customer)?.balance ?? 0));
  const intent = due === 0 ? null : firstPayment(world, given, subscription, due);
  const status = firstStatus(trialing, due, given, subscription, intent);
  world.add('subscription', { ...subscription, status }, 'customer.subscription.created');
  bill(world, given.customer, { ...subscription, status }, invoiceId, lines, intent);
  arm(world, world.get('subscription', id));
  if (trialing && anchor - now <= 3 * 86_400)
    world.emit('customer.subscription.trial_will_end', world.get('subscription', id));
  return world.get('subscription', id);
}

/** Finalizes an automatic invoice and, unless it is sent to the customer, charges it. */
export function finalizeAndCollect(world: World, id: string, offSession: boolean): Stripe.Invoice {
  const invoice = finalizeInvoice(world, id);
  if (invoice.status !== 'open' || invoice.collection_method !== 'charge_automatically') return invoice;
  return collectInvoice(world, id, { paymentMethod: null, offSession, automatic: true });
}

function firstPeriod(anchor: number, price: Stripe.Price, now: number, trialing: boolean): Period {
  const recurrence = recurrenceOf(price, 'items[0][price]');
  if (trialing) return { start: now, end: anchor };
  if (anchor === now) return { start: now, end: boundary(now, recurrence, 1) };
  if (anchor < now)
    throw invalidRequest('billing_cycle_anchor must be in the future', { param: 'billing_cycle_anchor' });
  if (anchor > boundary(now, recurrence, 1))
    throw invalidRequest('billing_cycle_anchor cannot be later than next natural billing date', {
      param: 'billing_cycle_anchor',
    });
  return { start: now, end: anchor };
}

function firstLine(
  world: World,
  item: Stripe.SubscriptionItem,
  anchor: number,
  now: number,
  trialing: boolean,
  prorates: boolean,
): DraftLine {
  const full = priceAmount(item.price, item.quantity ?? 1);
  if (trialing) return periodLine(world, item, 0, true);
  if (anchor === now) return periodLine(world, item, full, false);
  const whole = periodAt(anchor, recurrenceOf(item.price), now);
  return {
    ...periodLine(world, item, prorates ? prorate(full, whole, now, anchor) : 0, false),
    proration: true,
  };
}

function onceLine(world: World, subscription: string, wanted: WantedItem, now: number): DraftLine {
  return {
    amountCents: priceAmount(wanted.price, wanted.quantity),
    currency: wanted.price.currency,
    description: productName(world, wanted.price),
    period: { start: now, end: now },
    price: wanted.price,
    quantity: wanted.quantity,
    subscription,
    subscriptionItem: null,
    proration: false,
    credits: null,
    invoiceItem: null,
    discountable: true,
    metadata: wanted.metadata,
  };
}

function firstPayment(
  world: World,
  given: NewSubscription,
  subscription: Stripe.Subscription,
  due: number,
): Stripe.PaymentIntent | null {
  if (given.paidBy !== null) return world.get('payment_intent', given.paidBy);
  if (
    subscription.collection_method !== 'charge_automatically' ||
    given.paymentBehavior === 'default_incomplete'
  )
    return null;
  const paymentMethod =
    idOf(subscription.default_payment_method) ?? customerPaymentMethod(world, given.customer);
  if (paymentMethod === null)
    throw invalidRequest(
      'This customer has no attached payment source or default payment method. Please consider adding a default payment method.',
      { code: 'resource_missing' },
    );
  const intent = createPaymentIntent(world, {
    amount: due,
    currency: subscription.currency,
    customer: given.customer,
    paymentMethodTypes: methodTypesIn(subscription.currency),
    description: paymentDescription('subscription_create', true),
    metadata: {},
    setupFutureUsage: 'off_session',
  });
  const confirmed = following(world, intent.id, () =>
    confirmPaymentIntent(world, intent.id, { paymentMethod, offSession: given.offSession }),
  );
  const settled = confirmed.status === 'succeeded' || confirmed.status === 'processing';
  if (!settled && given.paymentBehavior === 'error_if_incomplete') throw undone(declineError(confirmed));
  return confirmed;
}

/** The same refusal, but with nothing kept of what was tried. */
export function undone(error: StripeError): StripeError {
  return new StripeError({ ...error.fields, status: 402, keepsChanges: false });
}

function firstStatus(
  trialing: boolean,
  due: number,
  given: NewSubscription,
  subscription: Stripe.Subscription,
  intent: Stripe.PaymentIntent | null,
): 'trialing' | 'active' | 'incomplete' {
  if (trialing) return 'trialing';
  if (due === 0 || subscription.collection_method === 'send_invoice') return 'active';
  if (given.paidBy === null && given.paymentBehavior === 'default_incomplete') return 'incomplete';
  // A delayed method counts as paid until it fails: the customer did all they can.
  return intent?.status === 'succeeded' || intent?.status === 'processing' ? 'active' : 'incomplete';
}

function bill(
  world: World,
  customer: string,
  subscription: Stripe.Subscription,
  invoiceId: string,
  lines: readonly DraftLine[],
  intent: Stripe.PaymentIntent | null,
): void {
  const sends = subscription.collection_method === 'send_invoice';
  createInvoice(world, {
    id: invoiceId,
    customer,
    subscription,
    reason: 'subscription_create',
    lines,
    currency: subscription.currency,
    period: { start: subscription.created, end: subscription.created },
    collectionMethod: sends ? 'send_invoice' : 'charge_automatically',
    daysUntilDue: subscription.days_until_due,
    description: subscription.invoice_settings.description,
    footer: subscription.invoice_settings.footer,
  });
  const { draftSeconds } = billingSettings(world);
  if (sends && draftSeconds > 0) {
    world.wake(
      'invoice.finalize',
      invoiceId,
      subscription.created + draftSeconds,
      idOf(subscription.test_clock),
    );
    return;
  }
  const invoice = finalizeInvoice(world, invoiceId, intent?.id ?? null);
  if (intent !== null && invoice.status === 'open') noteAttempt(world, invoice, intent, true);
}

import type Stripe from 'stripe';
import { confirmPaymentIntent } from '../payments.ts';
import type { World } from '../world.ts';
import { customerIfAlive, idOf } from './customers.ts';
import { following, isFollowed } from './in-flight.ts';
import { subscriptionOf } from './invoice-object.ts';
import { invoiceOfPayment, paymentIntentOf } from './invoice-payments.ts';
import { invoiceNow, settleInvoice } from './invoices.ts';
import { billingSettings } from './settings.ts';

export interface Attempt {
  /** Null takes the invoice's, the subscription's or the customer's default. */
  readonly paymentMethod: string | null;
  readonly offSession: boolean;
  /** Retries by schedule count; what a person or the API asks for counts only as the first. */
  readonly automatic: boolean;
}

/** Tries to pay an open invoice once, and tells what came of it. A decline is not an error here. */
export function collectInvoice(world: World, id: string, attempt: Attempt): Stripe.Invoice {
  const invoice = world.get('invoice', id);
  const intent = paymentIntentOf(world, id);
  if (intent?.status === 'succeeded') return settleInvoice(world, id, 'payment');
  const paymentMethod = attempt.paymentMethod ?? defaultPaymentMethod(world, invoice);
  if (intent === null || paymentMethod === null) return noteAttempt(world, invoice, null, attempt.automatic);
  const confirmed = following(world, intent.id, () =>
    confirmPaymentIntent(world, intent.id, { paymentMethod, offSession: attempt.offSession }),
  );
  return noteAttempt(world, invoice, confirmed, attempt.automatic);
}

/** Notes an attempt already made: pays the invoice, or tells what it still needs and plans the next retry. */
export function noteAttempt(
  world: World,
  invoice: Stripe.Invoice,
  intent: Stripe.PaymentIntent | null,
  automatic: boolean,
): Stripe.Invoice {
  const { id } = invoice;
  const attemptCount = automatic ? invoice.attempt_count + 1 : Math.max(1, invoice.attempt_count);
  world.change('invoice', id, {
    attempt_count: attemptCount,
    attempted: true,
    // The time for it has come: a payment that settles later is followed by another time, or by none.
    ...(automatic && { next_payment_attempt: null }),
  });
  switch (intent?.status) {
    case 'succeeded':
      return settleInvoice(world, id, 'payment');
    case 'processing':
      return world.get('invoice', id);
    case 'requires_action':
      world.emit('invoice.payment_action_required', world.get('invoice', id));
      return world.get('invoice', id);
    default: {
      const failed = planRetry(world, id, automatic);
      world.emit('invoice.payment_failed', failed);
      if (intent?.last_payment_error?.code === 'authentication_required')
        world.emit('invoice.payment_action_required', failed);
      return world.get('invoice', id);
    }
  }
}

/** The payment method an invoice is charged to: its own, else its subscription's, else its customer's default. */
export function defaultPaymentMethod(world: World, invoice: Stripe.Invoice): string | null {
  const subscription = subscriptionOf(invoice);
  return (
    idOf(invoice.default_payment_method) ??
    (subscription === null ? null : idOf(world.get('subscription', subscription).default_payment_method)) ??
    customerPaymentMethod(world, idOf(invoice.customer))
  );
}

/** The customer's default payment method for invoices, or null. */
export function customerPaymentMethod(world: World, id: string | null): string | null {
  const customer = id === null ? null : customerIfAlive(world, id);
  return idOf(customer?.invoice_settings.default_payment_method) ?? idOf(customer?.default_source);
}

/** Follows payments that end later than the attempt: authentication, delayed methods, a confirmation by API. */
export function registerCollection(world: World): void {
  const follow = (snapshot: { readonly id?: string }): void => {
    const { id } = snapshot;
    const invoice = id === undefined || isFollowed(world, id) ? null : invoiceOfPayment(world, id);
    if (id === undefined || invoice === null) return;
    const current = world.get('invoice', invoice);
    if (current.status !== 'open' && current.status !== 'uncollectible') return;
    noteAttempt(world, current, world.get('payment_intent', id), false);
  };
  world.react('payment_intent.succeeded', (_, intent) => follow(intent));
  world.react('payment_intent.payment_failed', (_, intent) => follow(intent));
  world.onWake('invoice.retry', (_, id) => {
    if (world.get('invoice', id).status !== 'open') return;
    collectInvoice(world, id, { paymentMethod: null, offSession: true, automatic: true });
  });
}

/** When the next attempt follows; after the last one there is none. First invoices of subscriptions never retry. */
function planRetry(world: World, id: string, automatic: boolean): Stripe.Invoice {
  const invoice = world.get('invoice', id);
  if (!automatic && invoice.next_payment_attempt !== null) return invoice;
  const days = billingSettings(world).retryDays[invoice.attempt_count - 1];
  if (
    days === undefined ||
    invoice.auto_advance !== true ||
    invoice.collection_method !== 'charge_automatically' ||
    waitsForFirstPayment(world, invoice)
  )
    return world.change('invoice', id, { next_payment_attempt: null });
  const at = invoiceNow(world, invoice) + days * 86_400;
  world.wake('invoice.retry', id, at, idOf(invoice.test_clock));
  return world.change('invoice', id, { next_payment_attempt: at });
}

function waitsForFirstPayment(world: World, invoice: Stripe.Invoice): boolean {
  const subscription = subscriptionOf(invoice);
  return subscription !== null && world.get('subscription', subscription).status === 'incomplete';
}

import type Stripe from 'stripe';
import { idOf } from '../billing/customers.ts';
import { paymentIntentOf } from '../billing/invoice-payments.ts';
import type { World } from '../world.ts';
import { liveSubscription } from './view.ts';

/** What came of something a customer did in the portal. */
export interface PortalResult {
  readonly outcome: 'done' | 'scheduled' | 'requires_action' | 'declined';
  readonly subscription: Stripe.Subscription | null;
  /** The invoice to authenticate or pay again, where one is open. */
  readonly invoice: string | null;
  readonly message: string | null;
}

/** What came of a change that may have made an invoice. */
export function afterPayment(
  world: World,
  subscription: Stripe.Subscription,
  customer: string,
): PortalResult {
  const invoice = idOf(subscription.latest_invoice);
  if (invoice === null || world.get('invoice', invoice).status !== 'open') return done(subscription);
  return invoiceResult(world, invoice, customer);
}

/** What came of paying an invoice. */
export function invoiceResult(world: World, invoiceId: string, customer: string): PortalResult {
  const subscription = liveSubscription(world, customer);
  const invoice = world.get('invoice', invoiceId);
  const intent = paymentIntentOf(world, invoiceId);
  if (invoice.status === 'paid' || intent?.status === 'processing') return done(subscription);
  if (intent?.status === 'requires_action')
    return {
      outcome: 'requires_action',
      subscription,
      invoice: invoiceId,
      message: 'Your bank wants you to confirm this payment.',
    };
  const message = intent?.last_payment_error?.message ?? 'There is no payment method to charge.';
  return { outcome: 'declined', subscription, invoice: invoiceId, message };
}

/** Nothing is left to do. */
export function done(subscription: Stripe.Subscription | null): PortalResult {
  return { outcome: 'done', subscription, invoice: null, message: null };
}

import type Stripe from 'stripe';
import { clockOfCustomer, customerIfAlive, idOf } from '../billing/customers.ts';
import { startSubscription } from '../billing/start.ts';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { checkoutDetails } from './details.ts';

const DAY = 86_400;

/** Completes an open session once: subscribes or keeps the payment, and tells `checkout.session.completed`. */
export function completeSession(
  world: World,
  id: string,
  intent: Stripe.PaymentIntent | null,
): Stripe.Checkout.Session {
  const session = world.get('checkout.session', id);
  if (session.status !== 'open') return session;
  world.forget('checkout.expire', id);
  const details = checkoutDetails(world, id);
  const customer = idOf(session.customer) ?? details.customer;
  const subscription =
    session.mode === 'subscription' && customer !== null ? subscribe(world, session, customer, intent) : null;
  const completed = world.change('checkout.session', id, {
    status: 'complete',
    payment_status: paymentStatus(intent, session),
    customer,
    customer_details: customerDetails(world, customer, details.paymentMethod, details.email),
    payment_intent: session.mode === 'payment' ? (intent?.id ?? null) : null,
    subscription: subscription?.id ?? null,
    invoice: subscription === null ? null : idOf(subscription.latest_invoice),
    url: null,
  });
  world.emit('checkout.session.completed', completed);
  return world.get('checkout.session', id);
}

/** A payment that was on its way when the session completed has arrived or failed. */
export function noteSettled(world: World, id: string, intent: Stripe.PaymentIntent): void {
  const session = world.get('checkout.session', id);
  if (session.payment_status !== 'unpaid') return;
  if (intent.status === 'succeeded') {
    const paid = world.change('checkout.session', id, { payment_status: 'paid' });
    world.emit('checkout.session.async_payment_succeeded', paid);
  } else {
    world.emit('checkout.session.async_payment_failed', session);
  }
}

/** Ends an open session; Stripe's 400 for one that is not open. */
export function expireCheckoutSession(world: World, id: string): Stripe.Checkout.Session {
  const session = world.get('checkout.session', id, 'session');
  if (session.status !== 'open')
    throw invalidRequest(
      `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of ${session.status}.`,
    );
  world.forget('checkout.expire', id);
  const expired = world.change('checkout.session', id, { status: 'expired', url: null });
  world.emit('checkout.session.expired', expired);
  return expired;
}

function subscribe(
  world: World,
  session: Stripe.Checkout.Session,
  customer: string,
  intent: Stripe.PaymentIntent | null,
): Stripe.Subscription {
  const { items, subscription: wanted, paymentMethod } = checkoutDetails(world, session.id);
  const now = world.now(clockOfCustomer(world, customer));
  const trialEnd = wanted.trialEnd ?? (wanted.trialDays === null ? null : now + wanted.trialDays * DAY);
  return startSubscription(world, {
    customer,
    items: items.filter(({ price }) => price.recurring !== null),
    once: items.filter(({ price }) => price.recurring === null),
    trialEnd,
    billingCycleAnchor: wanted.billingCycleAnchor,
    prorate: wanted.prorate,
    paymentBehavior: 'allow_incomplete',
    offSession: false,
    paidBy: intent?.id ?? null,
    fields: {
      metadata: wanted.metadata,
      description: wanted.description,
      default_payment_method: paymentMethod,
      ...(wanted.trialSettings === null ? {} : { trial_settings: wanted.trialSettings }),
    },
  });
}

function paymentStatus(
  intent: Stripe.PaymentIntent | null,
  session: Stripe.Checkout.Session,
): 'paid' | 'unpaid' | 'no_payment_required' {
  if (intent === null)
    return session.mode === 'payment' && session.amount_total !== 0 ? 'unpaid' : 'no_payment_required';
  return intent.status === 'succeeded' ? 'paid' : 'unpaid';
}

function customerDetails(
  world: World,
  customerId: string | null,
  paymentMethod: string | null,
  email: string | null,
): Stripe.Checkout.Session.CustomerDetails {
  const customer = customerId === null ? null : customerIfAlive(world, customerId);
  const billing =
    paymentMethod === null ? undefined : world.find('payment_method', paymentMethod)?.billing_details;
  return {
    address: billing?.address ?? null,
    business_name: null,
    email: customer?.email ?? email ?? billing?.email ?? null,
    individual_name: null,
    name: billing?.name ?? customer?.name ?? null,
    phone: billing?.phone ?? customer?.phone ?? null,
    tax_exempt: customer?.tax_exempt ?? 'none',
    tax_ids: [],
  };
}

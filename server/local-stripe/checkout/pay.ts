import type Stripe from 'stripe';
import { customerIfAlive, idOf } from '../billing/customers.ts';
import { following, isFollowed } from '../billing/in-flight.ts';
import { firstAmount } from '../billing/start.ts';
import { invalidRequest, StripeError } from '../errors.ts';
import { createPaymentIntent } from '../payment-intent-object.ts';
import { adopt, resolvePaymentMethod } from '../payment-methods.ts';
import { completeAuthentication, confirmPaymentIntent } from '../payments.ts';
import { createCustomer } from '../resources/customers.ts';
import type { World } from '../world.ts';
import { completeSession, noteSettled } from './complete.ts';
import { type CheckoutDetails, checkoutDetails, noteCheckout } from './details.ts';

export interface CheckoutResult {
  readonly outcome: 'complete' | 'requires_action' | 'processing' | 'declined';
  readonly session: Stripe.Checkout.Session;
  /** What the customer should read, as when the card was declined. */
  readonly message: string | null;
}

/**
 * Pays an open session: makes the customer if there is none, charges, then completes. `processing` means
 * completed with a payment still on its way. A session already complete answers `complete` and changes nothing; an
 * expired one is refused.
 */
export function payCheckoutSession(
  world: World,
  sessionId: string,
  given: { readonly paymentMethod: string; readonly email: string | null },
): CheckoutResult {
  const session = openSession(world, sessionId);
  if (session.status === 'complete') return { outcome: 'complete', session, message: null };
  const method = resolvePaymentMethod(world, given.paymentMethod);
  const allowed = session.payment_method_types;
  if (!allowed.includes(method.type))
    throw invalidRequest(
      `The payment method type \`${method.type}\` is not allowed for this Checkout Session, which takes: ${allowed.join(', ')}.`,
      { param: 'payment_method' },
    );
  const details = checkoutDetails(world, sessionId);
  const email = given.email ?? session.customer_email ?? method.billing_details.email;
  const customer = customerFor(world, session, details, email);
  noteCheckout(world, sessionId, { customer, paymentMethod: method.id, email });
  const amount = amountDue(world, session, details, customer);
  if (amount === 0) {
    if (customer !== null && method.customer === null) adopt(world, method, customer);
    return { outcome: 'complete', session: completeSession(world, sessionId, null), message: null };
  }
  const intentId = details.paymentIntent ?? newIntent(world, session, details, customer, amount).id;
  noteCheckout(world, sessionId, { paymentIntent: intentId });
  world.hidden.put('checkout_of_payment', intentId, { session: sessionId });
  const intent = following(world, intentId, () =>
    confirmPaymentIntent(world, intentId, { paymentMethod: method.id, offSession: false }),
  );
  return outcomeOf(world, sessionId, intent);
}

/** The customer passes or fails the 3D Secure step of a session that asked for it. */
export function finishAuthentication(
  world: World,
  sessionId: string,
  outcome: 'succeed' | 'fail',
): CheckoutResult {
  const session = openSession(world, sessionId);
  if (session.status === 'complete') return { outcome: 'complete', session, message: null };
  const intentId = checkoutDetails(world, sessionId).paymentIntent;
  if (intentId === null)
    throw invalidRequest('This Checkout Session has no payment waiting for authentication.');
  const intent = following(world, intentId, () => completeAuthentication(world, intentId, outcome));
  return outcomeOf(world, sessionId, intent);
}

/** Completes sessions whose payment ends elsewhere or later: 3D Secure by API, bank debits. */
export function registerCheckout(world: World): void {
  const follow = (id: string | undefined): void => {
    if (id === undefined || isFollowed(world, id)) return;
    const sessionId = world.hidden.get<{ session: string }>('checkout_of_payment', id)?.session;
    if (sessionId === undefined) return;
    const session = world.get('checkout.session', sessionId);
    const intent = world.get('payment_intent', id);
    if (session.status === 'complete') noteSettled(world, sessionId, intent);
    else if (session.status === 'open') outcomeOf(world, sessionId, intent);
  };
  world.react('payment_intent.succeeded', (_, { id }) => follow(id));
  world.react('payment_intent.payment_failed', (_, { id }) => follow(id));
}

function openSession(world: World, id: string): Stripe.Checkout.Session {
  const session = world.get('checkout.session', id, 'session');
  const over = session.status === 'open' && session.expires_at <= world.now();
  if (session.status === 'expired' || over)
    throw new StripeError({
      status: 400,
      type: 'invalid_request_error',
      code: 'checkout_session_expired',
      message: 'This Checkout Session has expired.',
    });
  return session;
}

function outcomeOf(world: World, sessionId: string, intent: Stripe.PaymentIntent): CheckoutResult {
  switch (intent.status) {
    case 'succeeded':
      return { outcome: 'complete', session: completeSession(world, sessionId, intent), message: null };
    case 'processing':
      return { outcome: 'processing', session: completeSession(world, sessionId, intent), message: null };
    case 'requires_action':
      return {
        outcome: 'requires_action',
        session: world.get('checkout.session', sessionId),
        message: 'Your bank wants you to confirm this payment.',
      };
    default:
      return {
        outcome: 'declined',
        session: world.get('checkout.session', sessionId),
        message: intent.last_payment_error?.message ?? 'Your card was declined.',
      };
  }
}

function customerFor(
  world: World,
  session: Stripe.Checkout.Session,
  details: CheckoutDetails,
  email: string | null,
): string | null {
  const known = idOf(session.customer) ?? details.customer;
  if (known !== null) {
    if (!customerIfAlive(world, known))
      throw invalidRequest(`No such customer: '${known}'`, { code: 'resource_missing' });
    return known;
  }
  if (session.mode === 'payment' && session.customer_creation !== 'always') return null;
  return createCustomer(world, { ...(email === null ? {} : { email }) }).id;
}

function amountDue(
  world: World,
  session: Stripe.Checkout.Session,
  details: CheckoutDetails,
  customer: string | null,
): number {
  if (session.mode !== 'subscription') return session.amount_total ?? 0;
  const trial = details.subscription.trialDays !== null || details.subscription.trialEnd !== null;
  if (trial) return 0;
  const balance = customer === null ? 0 : (customerIfAlive(world, customer)?.balance ?? 0);
  return Math.max(0, firstAmount({ items: recurring(details), trialEnd: null }) + oneTime(details) + balance);
}

function recurring(details: CheckoutDetails): CheckoutDetails['items'] {
  return details.items.filter(({ price }) => price.recurring !== null);
}

function oneTime(details: CheckoutDetails): number {
  const once = details.items.filter(({ price }) => price.recurring === null);
  return firstAmount({ items: once, trialEnd: null });
}

function newIntent(
  world: World,
  session: Stripe.Checkout.Session,
  details: CheckoutDetails,
  customer: string | null,
  amount: number,
): Stripe.PaymentIntent {
  const subscribes = session.mode === 'subscription';
  return createPaymentIntent(world, {
    amount,
    currency: session.currency ?? 'usd',
    customer,
    paymentMethodTypes: session.payment_method_types,
    description: subscribes ? 'Subscription creation' : details.payment.description,
    metadata: subscribes ? {} : details.payment.metadata,
    setupFutureUsage: subscribes ? 'off_session' : details.payment.setupFutureUsage,
    shipping: details.payment.shipping,
    receiptEmail: details.payment.receiptEmail,
  });
}

import type Stripe from 'stripe';
import { DECLINES, type DeclineName } from './cards.ts';
import { clockOfCustomer, createCharge } from './charges.ts';
import { adopt } from './payment-methods.ts';
import type { World } from './world.ts';

/** The topic under which a bank debit wakes to be settled. */
export const SETTLE = 'payment_intent.settle';

/** The payment is made, with its charge; tells payment_intent.succeeded. */
export function succeed(
  world: World,
  id: string,
  method: Stripe.PaymentMethod,
  threeDSecure: 'authenticated' | null,
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  if (threeDSecure !== null && intent.setup_future_usage !== null) world.hidden.put('set_up', method.id, {});
  const charge = createCharge(world, intent, method, { status: 'succeeded' }, threeDSecure);
  return markSucceeded(world, id, charge.id, method);
}

/** The payment is made by a charge that exists already. */
export function markSucceeded(
  world: World,
  id: string,
  charge: string,
  method: Stripe.PaymentMethod | null,
): Stripe.PaymentIntent {
  const { amount, customer, setup_future_usage: later } = world.get('payment_intent', id);
  if (method !== null && method.customer === null && typeof customer === 'string' && later !== null)
    adopt(world, method, customer);
  return told(world, id, 'payment_intent.succeeded', {
    status: 'succeeded',
    amount_received: amount,
    latest_charge: charge,
    next_action: null,
    last_payment_error: null,
  });
}

/** The bank declines; tells payment_intent.payment_failed. */
export function fail(
  world: World,
  id: string,
  method: Stripe.PaymentMethod,
  decline: DeclineName,
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  const charge = createCharge(world, intent, method, { status: 'failed', decline });
  const { code, message } = DECLINES[decline];
  return refuseWith(world, id, charge.id, {
    charge: charge.id,
    code,
    decline_code: decline,
    message,
    payment_method: method,
    type: 'card_error',
  });
}

/** The payment failed for this reason, and wants another method. */
export function refuseWith(
  world: World,
  id: string,
  charge: string | null,
  error: Stripe.PaymentIntent.LastPaymentError,
): Stripe.PaymentIntent {
  return told(world, id, 'payment_intent.payment_failed', {
    status: 'requires_payment_method',
    payment_method: null,
    last_payment_error: error,
    next_action: null,
    ...(charge === null ? {} : { latest_charge: charge }),
  });
}

/** The payment waits for 3D Secure. */
export function requireAction(world: World, id: string, returnUrl: string | null): Stripe.PaymentIntent {
  const baseUrl = world.hidden.get<{ url: string }>('base_url', 'self')?.url ?? '';
  const url = `${baseUrl}/_sandbox/authenticate/${id}`;
  return told(world, id, 'payment_intent.requires_action', {
    status: 'requires_action',
    next_action:
      returnUrl === null
        ? { type: 'use_stripe_sdk', use_stripe_sdk: { type: 'three_d_secure_redirect', stripe_js: url } }
        : { type: 'redirect_to_url', redirect_to_url: { return_url: returnUrl, url } },
  });
}

/** A bank debit is under way, to be settled so many seconds later. */
export function startSettling(
  world: World,
  id: string,
  method: Stripe.PaymentMethod,
  afterSeconds: number,
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  const charge = createCharge(world, intent, method, { status: 'pending' });
  const clock = clockOfCustomer(world, intent.customer);
  world.wake(SETTLE, id, world.now(clock) + afterSeconds, clock);
  return told(world, id, 'payment_intent.processing', { status: 'processing', latest_charge: charge.id });
}

/** Stripe's payment_intent events carry no `previous_attributes`. */
export function told(
  world: World,
  id: string,
  event: Stripe.Event['type'],
  fields: Partial<Stripe.PaymentIntent>,
): Stripe.PaymentIntent {
  const after = world.change('payment_intent', id, fields);
  world.emit(event, after);
  return after;
}

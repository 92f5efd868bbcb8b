import type Stripe from 'stripe';
import { clockOfCustomer, settleCharge } from './charges.ts';
import { openDispute } from './disputes.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { declineOrdered } from './ordered-declines.ts';
import { behaviourOf, resolvePaymentMethod } from './payment-methods.ts';
import {
  fail,
  markSucceeded,
  refuseWith,
  requireAction,
  SETTLE,
  startSettling,
  succeed,
  told,
} from './payment-outcomes.ts';
import type { World } from './world.ts';

/**
 * Tries to collect the payment. The status then is `succeeded`, `requires_action` (3D Secure), `processing` (bank
 * debit) or `requires_payment_method` with `last_payment_error`: a decline is an outcome, not an exception.
 * `offSession` declines where 3D Secure would be needed. Throws 400 when there is nothing to confirm.
 */
export function confirmPaymentIntent(
  world: World,
  id: string,
  given: {
    readonly paymentMethod: string | null;
    readonly offSession: boolean;
    readonly returnUrl?: string | null;
  },
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  if (!CONFIRMABLE.has(intent.status)) throw unexpectedState(intent, 'confirm');
  const reference =
    given.paymentMethod ?? (typeof intent.payment_method === 'string' ? intent.payment_method : null);
  if (reference === null) {
    throw invalidRequest(
      'You cannot confirm this PaymentIntent because it is missing a payment method. Provide one with `payment_method`.',
      { code: 'payment_intent_unexpected_state', param: 'payment_method' },
    );
  }
  const method = usable(world, intent, resolvePaymentMethod(world, reference));
  world.change('payment_intent', id, {
    payment_method: method.id,
    status: 'requires_confirmation',
    last_payment_error: null,
    next_action: null,
  });
  const ordered = declineOrdered(world, intent.customer);
  if (ordered !== null) return fail(world, id, method, ordered);
  const behaviour = behaviourOf(world, method.id);
  switch (behaviour.kind) {
    case 'pays':
      return succeed(world, id, method, null);
    case 'disputed': {
      const paid = succeed(world, id, method, null);
      if (typeof paid.latest_charge === 'string')
        openDispute(world, paid.latest_charge, { reason: behaviour.reason });
      return paid;
    }
    case 'declines':
      return fail(world, id, method, behaviour.decline);
    case 'authenticates': {
      const setUp = behaviour.when === 'unless_set_up' && world.hidden.get('set_up', method.id) !== undefined;
      if (setUp) return succeed(world, id, method, null);
      if (given.offSession) return fail(world, id, method, 'authentication_required');
      return requireAction(world, id, given.returnUrl ?? null);
    }
    case 'settles_later':
      return startSettling(world, id, method, behaviour.afterSeconds);
    default:
      return behaviour satisfies never;
  }
}

/** The customer passes or fails 3D Secure. Throws 400 unless the intent is waiting for that. */
export function completeAuthentication(
  world: World,
  id: string,
  outcome: 'succeed' | 'fail',
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  if (intent.status !== 'requires_action' || typeof intent.payment_method !== 'string')
    throw unexpectedState(intent, 'authenticate');
  const method = world.get('payment_method', intent.payment_method);
  if (outcome === 'succeed') return succeed(world, id, method, 'authenticated');
  return refuseWith(world, id, null, {
    code: 'payment_intent_authentication_failure',
    message:
      'The provided PaymentMethod has failed authentication. Provide another payment method, or try to confirm again.',
    payment_method: method,
    type: 'card_error',
  });
}

/** A payment that is `processing` arrives, or does not. Throws 400 unless it is processing. */
export function settleDelayed(world: World, id: string, outcome: 'succeed' | 'fail'): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  if (intent.status !== 'processing' || typeof intent.latest_charge !== 'string')
    throw unexpectedState(intent, 'settle');
  world.forget(SETTLE, id);
  const charge = settleCharge(world, intent.latest_charge, outcome);
  const method =
    typeof intent.payment_method === 'string'
      ? world.find('payment_method', intent.payment_method)
      : undefined;
  if (outcome === 'succeed') return markSucceeded(world, id, charge.id, method ?? null);
  return refuseWith(world, id, charge.id, {
    charge: charge.id,
    code: 'payment_intent_payment_attempt_failed',
    message: 'The payment failed: the customer’s bank account has insufficient funds.',
    ...(method ? { payment_method: method } : {}),
    type: 'invalid_request_error',
  });
}

/** Gives up a payment that was not made; tells payment_intent.canceled. */
export function cancelPaymentIntent(
  world: World,
  id: string,
  reason: Stripe.PaymentIntent.CancellationReason | null,
): Stripe.PaymentIntent {
  const intent = world.get('payment_intent', id);
  if (!CONFIRMABLE.has(intent.status) && intent.status !== 'requires_action')
    throw unexpectedState(intent, 'cancel');
  return told(world, id, 'payment_intent.canceled', {
    status: 'canceled',
    canceled_at: world.now(clockOfCustomer(world, intent.customer)),
    cancellation_reason: reason,
    next_action: null,
  });
}

/** The 402 that the API answers when a confirmation ended in `last_payment_error`. What happened stays. */
export function declineError(intent: Stripe.PaymentIntent): StripeError {
  const error = intent.last_payment_error;
  return new StripeError({
    status: 402,
    type: 'card_error',
    message: error?.message ?? 'Your card was declined.',
    ...(error?.code === undefined ? {} : { code: error.code }),
    ...(error?.decline_code === undefined ? {} : { declineCode: error.decline_code }),
    extra: {
      ...(error?.charge === undefined ? {} : { charge: error.charge }),
      payment_intent: intent,
      ...(error?.payment_method === undefined ? {} : { payment_method: error.payment_method }),
    },
    keepsChanges: true,
  });
}

/** Lets bank debits settle when their time comes. To be called once, when the world opens. */
export function registerPayments(world: World): void {
  world.onWake(SETTLE, (_world, id) => {
    const intent = world.find('payment_intent', id);
    if (intent?.status !== 'processing' || typeof intent.payment_method !== 'string') return;
    const behaviour = behaviourOf(world, intent.payment_method);
    settleDelayed(world, id, behaviour.kind === 'settles_later' ? behaviour.outcome : 'succeed');
  });
}

const CONFIRMABLE: ReadonlySet<string> = new Set([
  'requires_payment_method',
  'requires_confirmation',
  'requires_action',
]);

function usable(
  world: World,
  intent: Stripe.PaymentIntent,
  method: Stripe.PaymentMethod,
): Stripe.PaymentMethod {
  if (!intent.payment_method_types.includes(method.type) && !intent.automatic_payment_methods?.enabled) {
    throw invalidRequest(
      `The PaymentMethod provided (${method.type}) is not allowed for this PaymentIntent, which takes: ${intent.payment_method_types.join(', ')}.`,
      { param: 'payment_method' },
    );
  }
  if (method.customer !== null && method.customer !== intent.customer) {
    throw invalidRequest(
      `The PaymentMethod ${method.id} belongs to another customer. Confirm with a payment method of this PaymentIntent's customer.`,
      { param: 'payment_method' },
    );
  }
  if (method.type === 'sepa_debit' && intent.currency !== 'eur')
    throw invalidRequest('SEPA Direct Debit payments must be in eur.', { param: 'payment_method' });
  if (method.type === 'us_bank_account' && intent.currency !== 'usd')
    throw invalidRequest('ACH Direct Debit payments must be in usd.', { param: 'payment_method' });
  return world.get('payment_method', method.id);
}

function unexpectedState(intent: Stripe.PaymentIntent, action: string): StripeError {
  return new StripeError({
    status: 400,
    type: 'invalid_request_error',
    code: 'payment_intent_unexpected_state',
    message: `You cannot ${action} this PaymentIntent because it has a status of ${intent.status}.`,
    extra: { payment_intent: intent },
  });
}

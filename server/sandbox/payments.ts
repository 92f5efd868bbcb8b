import type Stripe from 'stripe';
import { DECLINES, type DeclineName } from './cards.ts';
import { clockOfCustomer, createCharge, settleCharge } from './charges.ts';
import { openDispute } from './disputes.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { adopt, behaviourOf, resolvePaymentMethod } from './payment-methods.ts';
import type { World } from './world.ts';

export interface NewPaymentIntent {
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  readonly customer: string | null;
  readonly paymentMethodTypes: readonly string[];
  readonly description: string | null;
  readonly metadata: Stripe.Metadata;
  readonly setupFutureUsage: 'off_session' | 'on_session' | null;
  readonly shipping?: Stripe.PaymentIntent.Shipping | null;
  readonly receiptEmail?: string | null;
  readonly automaticPaymentMethods?: boolean;
  readonly allowedPaymentMethodTypes?: readonly string[] | null;
}

/** Creates an intent to pay, not yet confirmed; tells payment_intent.created. */
export function createPaymentIntent(world: World, given: NewPaymentIntent): Stripe.PaymentIntent {
  const id = world.newId('payment_intent');
  return world.add(
    'payment_intent',
    {
      id,
      object: 'payment_intent',
      allowed_payment_method_types: given.allowedPaymentMethodTypes
        ? [...given.allowedPaymentMethodTypes]
        : null,
      amount: given.amount,
      amount_capturable: 0,
      amount_details: {},
      amount_received: 0,
      application: null,
      application_fee_amount: null,
      automatic_payment_methods: given.automaticPaymentMethods
        ? { allow_redirects: 'always', enabled: true }
        : null,
      canceled_at: null,
      cancellation_reason: null,
      capture_method: 'automatic_async',
      client_secret: `${id}_secret_${world.newId('payment_intent').slice(3)}`,
      confirmation_method: 'automatic',
      created: world.now(clockOfCustomer(world, given.customer)),
      currency: given.currency,
      customer: given.customer,
      customer_account: null,
      description: given.description,
      excluded_payment_method_types: null,
      last_payment_error: null,
      latest_charge: null,
      livemode: false,
      managed_payments: null,
      metadata: given.metadata,
      next_action: null,
      on_behalf_of: null,
      payment_method: null,
      payment_method_configuration_details: null,
      payment_method_options: {
        card: {
          installments: null,
          mandate_options: null,
          network: null,
          request_three_d_secure: 'automatic',
        },
      },
      payment_method_types: [...given.paymentMethodTypes],
      payment_record: null,
      processing: null,
      receipt_email: given.receiptEmail ?? null,
      review: null,
      setup_future_usage: given.setupFutureUsage,
      shipping: given.shipping ?? null,
      source: null,
      statement_descriptor: null,
      statement_descriptor_suffix: null,
      status: 'requires_payment_method',
      transfer_data: null,
      transfer_group: null,
    },
    'payment_intent.created',
  );
}

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

/** Orders the bank to decline this customer's next payments, whatever the card. */
export function declineNextPayments(
  world: World,
  customer: string,
  decline: DeclineName,
  times: number,
): void {
  world.hidden.put('decline_next', customer, { decline, times });
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

const SETTLE = 'payment_intent.settle';

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

function declineOrdered(world: World, customer: Stripe.PaymentIntent['customer']): DeclineName | null {
  if (typeof customer !== 'string') return null;
  const order = world.hidden.get<{ decline: DeclineName; times: number }>('decline_next', customer);
  if (order === undefined) return null;
  if (order.times > 1) world.hidden.put('decline_next', customer, { ...order, times: order.times - 1 });
  else world.hidden.remove('decline_next', customer);
  return order.decline;
}

function succeed(
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

function markSucceeded(
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

function fail(
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

function refuseWith(
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

function requireAction(world: World, id: string, returnUrl: string | null): Stripe.PaymentIntent {
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

function startSettling(
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
function told(
  world: World,
  id: string,
  event: Stripe.Event['type'],
  fields: Partial<Stripe.PaymentIntent>,
): Stripe.PaymentIntent {
  const after = world.change('payment_intent', id, fields);
  world.emit(event, after);
  return after;
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

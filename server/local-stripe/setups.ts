import type Stripe from 'stripe';
import { DECLINES } from './cards.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { adopt, behaviourOf, resolvePaymentMethod } from './payment-methods.ts';
import type { World } from './world.ts';

/** Creates an intent to save a payment method for later; tells setup_intent.created. */
export function createSetupIntent(
  world: World,
  given: {
    readonly customer: string | null;
    readonly paymentMethodTypes: readonly string[];
    readonly allowedPaymentMethodTypes?: readonly string[] | null;
    readonly usage: 'off_session' | 'on_session';
    readonly description: string | null;
    readonly metadata: Stripe.Metadata;
  },
): Stripe.SetupIntent {
  const id = world.newId('setup_intent');
  return world.add(
    'setup_intent',
    {
      id,
      object: 'setup_intent',
      allowed_payment_method_types: given.allowedPaymentMethodTypes
        ? [...given.allowedPaymentMethodTypes]
        : null,
      application: null,
      automatic_payment_methods: null,
      cancellation_reason: null,
      client_secret: `${id}_secret_${world.newId('setup_intent').slice(5)}`,
      created: world.now(),
      customer: given.customer,
      customer_account: null,
      description: given.description,
      excluded_payment_method_types: null,
      flow_directions: null,
      last_setup_error: null,
      latest_attempt: null,
      livemode: false,
      managed_payments: null,
      mandate: null,
      metadata: given.metadata,
      next_action: null,
      on_behalf_of: null,
      payment_method: null,
      payment_method_configuration_details: null,
      payment_method_options: {
        card: { mandate_options: null, network: null, request_three_d_secure: 'automatic' },
      },
      payment_method_types: [...given.paymentMethodTypes],
      single_use_mandate: null,
      status: 'requires_payment_method',
      usage: given.usage,
    },
    'setup_intent.created',
  );
}

/**
 * Tries to save the method: `succeeded` (then it is the customer's), `requires_action` (3D Secure), or
 * `requires_payment_method` with `last_setup_error`. Throws 400 when there is nothing to confirm.
 */
export function confirmSetupIntent(
  world: World,
  id: string,
  given: { readonly paymentMethod: string | null; readonly returnUrl?: string | null },
): Stripe.SetupIntent {
  const intent = world.get('setup_intent', id);
  if (intent.status === 'succeeded' || intent.status === 'canceled') throw unexpectedState(intent, 'confirm');
  const reference =
    given.paymentMethod ?? (typeof intent.payment_method === 'string' ? intent.payment_method : null);
  if (reference === null)
    throw invalidRequest('You cannot confirm this SetupIntent because it is missing a payment method.', {
      code: 'setup_intent_unexpected_state',
      param: 'payment_method',
    });
  const method = resolvePaymentMethod(world, reference);
  if (method.customer !== null && method.customer !== intent.customer)
    throw invalidRequest(`The PaymentMethod ${method.id} belongs to another customer.`, {
      param: 'payment_method',
    });
  const behaviour = behaviourOf(world, method.id);
  if (behaviour.kind === 'declines' && !behaviour.attaches) {
    const { code, message } = DECLINES[behaviour.decline];
    return refuse(world, id, {
      code,
      decline_code: behaviour.decline,
      message,
      payment_method: method,
      type: 'card_error',
    });
  }
  world.change('setup_intent', id, { payment_method: method.id, last_setup_error: null });
  if (behaviour.kind !== 'authenticates') return finish(world, id, method);
  const baseUrl = world.hidden.get<{ url: string }>('base_url', 'self')?.url ?? '';
  const url = `${baseUrl}/_sandbox/authenticate/${id}`;
  const returnUrl = given.returnUrl ?? null;
  return told(world, id, 'setup_intent.requires_action', {
    status: 'requires_action',
    next_action:
      returnUrl === null
        ? { type: 'use_stripe_sdk', use_stripe_sdk: { type: 'three_d_secure_redirect', stripe_js: url } }
        : { type: 'redirect_to_url', redirect_to_url: { return_url: returnUrl, url } },
  });
}

/** The customer passes or fails 3D Secure for a setup. Throws 400 unless the intent is waiting for that. */
export function completeSetupAuthentication(
  world: World,
  id: string,
  outcome: 'succeed' | 'fail',
): Stripe.SetupIntent {
  const intent = world.get('setup_intent', id);
  if (intent.status !== 'requires_action' || typeof intent.payment_method !== 'string')
    throw unexpectedState(intent, 'authenticate');
  const method = world.get('payment_method', intent.payment_method);
  if (outcome === 'succeed') {
    world.hidden.put('set_up', method.id, {});
    return finish(world, id, method);
  }
  return refuse(world, id, {
    code: 'setup_intent_authentication_failure',
    message: 'The provided PaymentMethod has failed authentication.',
    payment_method: method,
    type: 'invalid_request_error',
  });
}

/** Gives a setup up; tells setup_intent.canceled. */
export function cancelSetupIntent(
  world: World,
  id: string,
  reason: Stripe.SetupIntent.CancellationReason | null,
): Stripe.SetupIntent {
  const intent = world.get('setup_intent', id);
  if (intent.status === 'succeeded' || intent.status === 'canceled') throw unexpectedState(intent, 'cancel');
  return told(world, id, 'setup_intent.canceled', {
    status: 'canceled',
    cancellation_reason: reason,
    next_action: null,
  });
}

/** The 402 that the API answers when a setup ended in `last_setup_error`. What happened stays. */
export function setupError(intent: Stripe.SetupIntent): StripeError {
  const error = intent.last_setup_error;
  return new StripeError({
    status: 402,
    type: 'card_error',
    message: error?.message ?? 'Your card was declined.',
    ...(error?.code === undefined ? {} : { code: error.code }),
    ...(error?.decline_code === undefined ? {} : { declineCode: error.decline_code }),
    extra: { setup_intent: intent },
    keepsChanges: true,
  });
}

function finish(world: World, id: string, method: Stripe.PaymentMethod): Stripe.SetupIntent {
  const { customer } = world.get('setup_intent', id);
  if (method.customer === null && typeof customer === 'string') adopt(world, method, customer);
  return told(world, id, 'setup_intent.succeeded', {
    status: 'succeeded',
    next_action: null,
    last_setup_error: null,
  });
}

function refuse(world: World, id: string, error: Stripe.SetupIntent.LastSetupError): Stripe.SetupIntent {
  return told(world, id, 'setup_intent.setup_failed', {
    status: 'requires_payment_method',
    payment_method: null,
    last_setup_error: error,
    next_action: null,
  });
}

/** Stripe's setup_intent events carry no `previous_attributes`. */
function told(
  world: World,
  id: string,
  event: Stripe.Event['type'],
  fields: Partial<Stripe.SetupIntent>,
): Stripe.SetupIntent {
  const after = world.change('setup_intent', id, fields);
  world.emit(event, after);
  return after;
}

function unexpectedState(intent: Stripe.SetupIntent, action: string): StripeError {
  return invalidRequest(
    `You cannot ${action} this SetupIntent because it has a status of ${intent.status}.`,
    {
      code: 'setup_intent_unexpected_state',
    },
  );
}

import type Stripe from 'stripe';
import { z } from 'zod';
import { methodTypesIn } from '../bank-accounts.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  currency,
  emptyable,
  intBetween,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  redirectAddress,
  shipping,
  text,
} from '../params.ts';
import { createPaymentIntent } from '../payment-intent-object.ts';
import { resolvePaymentMethod } from '../payment-methods.ts';
import { cancelPaymentIntent, confirmPaymentIntent, declineError } from '../payments.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { liveCustomer } from './customers.ts';
import { createPaymentMethod, paymentMethodData } from './payment-methods.ts';

const confirmation = {
  // Agreements to debits are taken as given and not kept: mandates are no objects here.
  mandate_data: params({ customer_acceptance: z.unknown() }).optional(),
  error_on_requires_action: bool.optional(),
  off_session: bool.optional(),
  payment_method: text.optional(),
  payment_method_data: paymentMethodData.optional(),
  receipt_email: emptyable(text).optional(),
  return_url: redirectAddress.optional(),
  use_stripe_sdk: bool.optional(),
};

const setupFutureUsage = oneOf('off_session', 'on_session').optional();
const newPaymentIntent = params({
  ...confirmation,
  allowed_payment_method_types: arrayOf(text).optional(),
  amount: intBetween(1, 99_999_999),
  automatic_payment_methods: params({
    enabled: bool,
    allow_redirects: oneOf('always', 'never').optional(),
  }).optional(),
  confirm: bool.optional(),
  currency,
  customer: text.optional(),
  description: emptyable(text).optional(),
  metadata: metadata.optional(),
  payment_method_types: arrayOf(text).optional(),
  setup_future_usage: setupFutureUsage,
  shipping: shipping.optional(),
});

/** Payment intents. A declined confirmation answers 402 and keeps what happened. */
export const paymentIntentRoutes: Route[] = [
  route('POST', '/v1/payment_intents', newPaymentIntent, (world, given) => create(world, given)),
  route('GET', '/v1/payment_intents/:id', params({ client_secret: text.optional() }), (world, _given, id) =>
    world.get('payment_intent', id),
  ),
  route(
    'POST',
    '/v1/payment_intents/:id',
    params({
      amount: intBetween(1, 99_999_999).optional(),
      currency: currency.optional(),
      customer: text.optional(),
      description: emptyable(text).optional(),
      metadata: metadata.optional(),
      payment_method: text.optional(),
      receipt_email: emptyable(text).optional(),
      setup_future_usage: setupFutureUsage,
      shipping: emptyable(shipping).optional(),
    }),
    (world, given, id) => update(world, id, given),
  ),
  route('POST', '/v1/payment_intents/:id/confirm', params(confirmation), (world, given, id) =>
    confirm(world, id, given),
  ),
  route(
    'POST',
    '/v1/payment_intents/:id/cancel',
    params({
      cancellation_reason: oneOf('abandoned', 'duplicate', 'fraudulent', 'requested_by_customer').optional(),
    }),
    (world, { cancellation_reason: reason }, id) => cancelPaymentIntent(world, id, reason ?? null),
  ),
  listRoute(
    'payment_intent',
    '/v1/payment_intents',
    { customer: text.optional() },
    (intent, { customer }) => customer === undefined || intent.customer === customer,
  ),
];

function create(world: World, given: z.output<typeof newPaymentIntent>): Stripe.PaymentIntent {
  if (given.customer !== undefined) liveCustomer(world, given.customer);
  // Older clients, the Stripe CLI among them, still send the name of before.
  const types = given.allowed_payment_method_types ?? given.payment_method_types;
  const intent = createPaymentIntent(world, {
    amount: given.amount,
    currency: given.currency,
    customer: given.customer ?? null,
    // Without a list Stripe takes what the account's settings allow; ours allow what the local Stripe can play.
    paymentMethodTypes: types ?? methodTypesIn(given.currency),
    description: given.description ?? null,
    metadata: mergeMetadata({}, given.metadata),
    setupFutureUsage: given.setup_future_usage ?? null,
    shipping: given.shipping ? shippingOf(given.shipping) : null,
    receiptEmail: given.receipt_email ?? null,
    allowedPaymentMethodTypes: given.allowed_payment_method_types ?? null,
    automaticPaymentMethods: given.automatic_payment_methods?.enabled ?? types === undefined,
  });
  if (given.confirm) return confirm(world, intent.id, given);
  if (given.payment_method === undefined) return intent;
  const method = resolvePaymentMethod(world, given.payment_method);
  return world.change('payment_intent', intent.id, {
    payment_method: method.id,
    status: 'requires_confirmation',
  });
}

function update(
  world: World,
  id: string,
  given: {
    amount?: number | undefined;
    currency?: string | undefined;
    customer?: string | undefined;
    description?: string | null | undefined;
    metadata?: z.output<typeof metadata> | undefined;
    payment_method?: string | undefined;
    receipt_email?: string | null | undefined;
    setup_future_usage?: 'off_session' | 'on_session' | undefined;
    shipping?: z.output<typeof shipping> | null | undefined;
  },
): Stripe.PaymentIntent {
  const before = world.get('payment_intent', id);
  const settled =
    before.status === 'succeeded' || before.status === 'canceled' || before.status === 'processing';
  if (
    settled &&
    (given.amount !== undefined || given.currency !== undefined || given.payment_method !== undefined)
  ) {
    throw invalidRequest(
      `This PaymentIntent's amount, currency and payment method could not be updated because it has a status of ${before.status}.`,
      { code: 'payment_intent_unexpected_state' },
    );
  }
  if (given.customer !== undefined && before.customer !== null && given.customer !== before.customer)
    throw invalidRequest('You cannot modify `customer` on a PaymentIntent once it already has been set.', {
      param: 'customer',
    });
  if (given.customer !== undefined) liveCustomer(world, given.customer);
  const method =
    given.payment_method === undefined ? null : resolvePaymentMethod(world, given.payment_method);
  const after: Stripe.PaymentIntent = {
    ...before,
    amount: given.amount ?? before.amount,
    currency: given.currency ?? before.currency,
    customer: given.customer ?? before.customer,
    description: given.description === undefined ? before.description : given.description,
    metadata: mergeMetadata(before.metadata, given.metadata),
    receipt_email: given.receipt_email === undefined ? before.receipt_email : given.receipt_email,
    setup_future_usage: given.setup_future_usage ?? before.setup_future_usage,
    shipping:
      given.shipping === undefined
        ? before.shipping
        : given.shipping === null
          ? null
          : shippingOf(given.shipping),
    ...(method === null ? {} : { payment_method: method.id, status: 'requires_confirmation' as const }),
  };
  // The owner of a stored object is indexed when it is first stored, so a new owner means storing it anew.
  if (after.customer !== before.customer) world.store.remove('payment_intent', id);
  return world.add('payment_intent', after);
}

function confirm(
  world: World,
  id: string,
  given: z.output<z.ZodObject<typeof confirmation>>,
): Stripe.PaymentIntent {
  const made = given.payment_method_data && createPaymentMethod(world, given.payment_method_data);
  const after = confirmPaymentIntent(world, id, {
    paymentMethod: made?.id ?? given.payment_method ?? null,
    offSession: given.off_session === true || given.error_on_requires_action === true,
    returnUrl: given.return_url ?? null,
  });
  if (after.last_payment_error) throw declineError(after);
  return after;
}

function shippingOf(given: z.output<typeof shipping>): Stripe.PaymentIntent.Shipping {
  return {
    address: given.address,
    carrier: given.carrier ?? null,
    name: given.name,
    phone: given.phone ?? null,
    tracking_number: given.tracking_number ?? null,
  };
}

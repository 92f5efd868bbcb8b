import type Stripe from 'stripe';
import { methodTypesIn } from '../bank-accounts.ts';
import { livingCustomer } from '../billing/customers.ts';
import type { WantedItem } from '../billing/subscription-object.ts';
import { expireCheckoutSession } from '../checkout/complete.ts';
import { checkoutDetails } from '../checkout/details.ts';
import { checkoutLine, createCheckoutSession } from '../checkout/sessions.ts';
import { invalidRequest } from '../errors.ts';
import type { Includes } from '../expand.ts';
import { listOf, listRoute } from '../list.ts';
import { intBetween, mergeMetadata, metadata, oneOf, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { givenPrice } from './billing-params.ts';
import { type GivenSession, newSession } from './checkout-params.ts';

/** Checkout Sessions in payment and subscription mode, paid on the local Stripe's own page. */
export const checkoutSessionRoutes: Route[] = [
  route('POST', '/v1/checkout/sessions', newSession, (world, given) => create(world, given)),
  route('GET', '/v1/checkout/sessions/:id', params({}), (world, _given, id) =>
    world.get('checkout.session', id, 'session'),
  ),
  route(
    'POST',
    '/v1/checkout/sessions/:id',
    params({ metadata: metadata.optional() }),
    (world, given, id) => {
      const session = world.get('checkout.session', id, 'session');
      return world.change('checkout.session', id, {
        metadata: mergeMetadata(session.metadata ?? {}, given.metadata),
      });
    },
  ),
  route('POST', '/v1/checkout/sessions/:id/expire', params({}), (world, _given, id) =>
    expireCheckoutSession(world, id),
  ),
  route(
    'GET',
    '/v1/checkout/sessions/:id/line_items',
    params({ limit: intBetween(1, 100).optional(), starting_after: text.optional() }),
    (world, { limit = 10, starting_after }, id) => {
      world.get('checkout.session', id, 'session');
      const { lineItems } = checkoutDetails(world, id);
      const from =
        starting_after === undefined ? 0 : lineItems.findIndex((line) => line.id === starting_after) + 1;
      return listOf(
        lineItems.slice(from, from + limit),
        `/v1/checkout/sessions/${id}/line_items`,
        lineItems.length > from + limit,
      );
    },
  ),
  listRoute(
    'checkout.session',
    '/v1/checkout/sessions',
    {
      customer: text.optional(),
      customer_details: params({ email: text }).optional(),
      payment_intent: text.optional(),
      status: oneOf('complete', 'expired', 'open').optional(),
      subscription: text.optional(),
    },
    (session, given) =>
      (given.customer === undefined || session.customer === given.customer) &&
      (given.customer_details === undefined ||
        session.customer_details?.email === given.customer_details.email) &&
      (given.payment_intent === undefined || session.payment_intent === given.payment_intent) &&
      (given.status === undefined || session.status === given.status) &&
      (given.subscription === undefined || session.subscription === given.subscription),
  ),
];

/** What a session shows only when asked. */
export const checkoutSessionIncludes: Includes = {
  'checkout.session.line_items': (world, session) => {
    const id = String(Reflect.get(session, 'id'));
    return listOf(checkoutDetails(world, id).lineItems, `/v1/checkout/sessions/${id}/line_items`);
  },
};

const HALF_HOUR = 30 * 60;
const DAY = 24 * 60 * 60;

function create(world: World, given: GivenSession): Stripe.Checkout.Session {
  const mode = given.mode;
  const items = lineItems(world, given);
  const currency = items[0]?.price.currency ?? given.currency ?? 'usd';
  const now = world.now();
  const expiresAt = given.expires_at ?? now + DAY;
  // A few seconds of grace: the caller's clock and the way here.
  if (expiresAt < now + HALF_HOUR - 10 || expiresAt > now + DAY + 10)
    throw invalidRequest(
      'The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.',
      { param: 'expires_at' },
    );
  checkModes(given);
  const types = given.allowed_payment_method_types ?? given.payment_method_types;
  const customer = given.customer === undefined ? null : livingCustomer(world, given.customer);
  if (customer !== null && given.customer_email !== undefined)
    throw invalidRequest('You may only specify one of these parameters: customer, customer_email.', {
      code: 'parameters_exclusive',
    });
  const sub = given.subscription_data;
  const pay = given.payment_intent_data;
  return createCheckoutSession(world, {
    mode,
    currency,
    paymentMethodTypes: [...(types ?? methodTypesIn(currency))],
    allowedPaymentMethodTypes: given.allowed_payment_method_types ?? null,
    expiresAt,
    details: {
      items,
      lineItems: items.map((item) => checkoutLine(world, item)),
      subscription: {
        metadata: mergeMetadata({}, sub?.metadata),
        description: sub?.description ?? null,
        trialDays: sub?.trial_period_days ?? null,
        trialEnd: sub?.trial_end ?? null,
        trialSettings: sub?.trial_settings
          ? {
              end_behavior: {
                billing_cycle_anchor: null,
                missing_payment_method: sub.trial_settings.end_behavior.missing_payment_method,
              },
            }
          : null,
        billingCycleAnchor: sub?.billing_cycle_anchor ?? null,
        prorate: sub?.proration_behavior !== 'none',
      },
      payment: {
        metadata: mergeMetadata({}, pay?.metadata),
        description: pay?.description ?? null,
        setupFutureUsage: pay?.setup_future_usage ?? null,
        shipping: pay?.shipping
          ? {
              address: pay.shipping.address,
              name: pay.shipping.name,
              phone: pay.shipping.phone ?? null,
              carrier: pay.shipping.carrier ?? null,
              tracking_number: pay.shipping.tracking_number ?? null,
            }
          : null,
        receiptEmail: pay?.receipt_email ?? null,
      },
      paymentIntent: null,
      customer: null,
      paymentMethod: null,
      email: null,
    },
    fields: {
      cancel_url: given.cancel_url ?? null,
      success_url: given.success_url,
      client_reference_id: given.client_reference_id ?? null,
      customer: customer?.id ?? null,
      customer_email: given.customer_email ?? null,
      ...(given.customer_creation === undefined ? {} : { customer_creation: given.customer_creation }),
      ...(customer === null ? {} : { customer_creation: null }),
      ...(pay?.setup_future_usage && customer === null ? { customer_creation: 'always' } : {}),
      metadata: mergeMetadata({}, given.metadata),
      locale: given.locale ?? null,
      submit_type: given.submit_type ?? null,
      billing_address_collection: given.billing_address_collection ?? null,
      allow_promotion_codes: given.allow_promotion_codes ?? null,
      ...(given.payment_method_collection === undefined
        ? {}
        : { payment_method_collection: given.payment_method_collection }),
      origin_context: given.origin_context ?? null,
    },
  });
}

function lineItems(world: World, given: GivenSession): readonly WantedItem[] {
  const items = given.line_items.map((line, at): WantedItem => {
    const param = `line_items[${at}]`;
    const price = givenPrice(world, line, param);
    if (given.mode === 'payment' && price.recurring !== null)
      throw invalidRequest(
        'You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.',
        { param: `${param}[price]` },
      );
    return { price, quantity: line.quantity ?? 1, metadata: mergeMetadata({}, line.metadata) };
  });
  const [first] = items;
  if (!first)
    throw invalidRequest('Missing required param: line_items.', {
      code: 'parameter_missing',
      param: 'line_items',
    });
  if (items.some(({ price }) => price.currency !== first.price.currency))
    throw invalidRequest('All prices on a Checkout Session must have the same currency.', {
      param: 'line_items',
    });
  if (given.mode === 'subscription' && items.every(({ price }) => price.recurring === null))
    throw invalidRequest(
      'You must provide at least one recurring price in `subscription` mode when using prices.',
      { param: 'line_items' },
    );
  return items;
}

function checkModes(given: GivenSession): void {
  if (given.mode === 'subscription' && given.payment_intent_data !== undefined)
    throw invalidRequest('You can not pass `payment_intent_data` in `subscription` mode.', {
      param: 'payment_intent_data',
    });
  if (given.mode === 'subscription' && given.customer_creation !== undefined)
    throw invalidRequest('`customer_creation` can only be used in `payment` mode.', {
      param: 'customer_creation',
    });
  if (given.mode === 'payment' && given.subscription_data !== undefined)
    throw invalidRequest('You can not pass `subscription_data` in `payment` mode.', {
      param: 'subscription_data',
    });
  const sub = given.subscription_data;
  if (sub?.trial_end !== undefined && sub.trial_period_days !== undefined)
    throw invalidRequest(
      'Received both trial_end and trial_period_days parameters. Please pass in only one.',
      {
        code: 'parameters_exclusive',
      },
    );
}

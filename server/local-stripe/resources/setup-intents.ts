import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  emptyable,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  redirectAddress,
  text,
} from '../params.ts';
import { resolvePaymentMethod } from '../payment-methods.ts';
import { type Route, route } from '../route.ts';
import { cancelSetupIntent, confirmSetupIntent, createSetupIntent, setupError } from '../setups.ts';
import type { World } from '../world.ts';
import { liveCustomer } from './customers.ts';

const confirmation = {
  payment_method: text.optional(),
  return_url: redirectAddress.optional(),
  use_stripe_sdk: bool.optional(),
};

/** Setup intents: saving a payment method without paying. */
export const setupIntentRoutes: Route[] = [
  route(
    'POST',
    '/v1/setup_intents',
    params({
      ...confirmation,
      allowed_payment_method_types: arrayOf(text).optional(),
      automatic_payment_methods: params({
        enabled: bool,
        allow_redirects: oneOf('always', 'never').optional(),
      }).optional(),
      confirm: bool.optional(),
      customer: text.optional(),
      description: emptyable(text).optional(),
      metadata: metadata.optional(),
      payment_method_types: arrayOf(text).optional(),
      usage: oneOf('off_session', 'on_session').optional(),
    }),
    (world, given) => {
      if (given.customer !== undefined) liveCustomer(world, given.customer);
      const intent = createSetupIntent(world, {
        customer: given.customer ?? null,
        paymentMethodTypes: given.allowed_payment_method_types ?? given.payment_method_types ?? ['card'],
        allowedPaymentMethodTypes: given.allowed_payment_method_types ?? null,
        usage: given.usage ?? 'off_session',
        description: given.description ?? null,
        metadata: mergeMetadata({}, given.metadata),
      });
      if (given.confirm) return confirm(world, intent.id, given);
      if (given.payment_method === undefined) return intent;
      const method = resolvePaymentMethod(world, given.payment_method);
      return world.change('setup_intent', intent.id, {
        payment_method: method.id,
        status: 'requires_confirmation',
      });
    },
  ),
  route('GET', '/v1/setup_intents/:id', params({ client_secret: text.optional() }), (world, _given, id) =>
    world.get('setup_intent', id),
  ),
  route(
    'POST',
    '/v1/setup_intents/:id',
    params({
      description: emptyable(text).optional(),
      metadata: metadata.optional(),
      payment_method: text.optional(),
    }),
    (world, given, id) => {
      const before = world.get('setup_intent', id);
      const method =
        given.payment_method === undefined ? null : resolvePaymentMethod(world, given.payment_method);
      return world.change('setup_intent', id, {
        description: given.description === undefined ? before.description : given.description,
        metadata: mergeMetadata(before.metadata ?? {}, given.metadata),
        ...(method === null ? {} : { payment_method: method.id, status: 'requires_confirmation' }),
      });
    },
  ),
  route('POST', '/v1/setup_intents/:id/confirm', params(confirmation), (world, given, id) =>
    confirm(world, id, given),
  ),
  route(
    'POST',
    '/v1/setup_intents/:id/cancel',
    params({ cancellation_reason: oneOf('abandoned', 'duplicate', 'requested_by_customer').optional() }),
    (world, { cancellation_reason: reason }, id) => cancelSetupIntent(world, id, reason ?? null),
  ),
  listRoute(
    'setup_intent',
    '/v1/setup_intents',
    { customer: text.optional(), payment_method: text.optional() },
    (intent, { customer, payment_method }) =>
      (customer === undefined || intent.customer === customer) &&
      (payment_method === undefined || intent.payment_method === payment_method),
  ),
];

function confirm(
  world: World,
  id: string,
  given: { payment_method?: string | undefined; return_url?: string | undefined },
) {
  const after = confirmSetupIntent(world, id, {
    paymentMethod: given.payment_method ?? null,
    returnUrl: given.return_url ?? null,
  });
  if (after.last_setup_error) throw setupError(after);
  return after;
}

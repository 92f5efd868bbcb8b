import type Stripe from 'stripe';
import type { z } from 'zod';
import { livingCustomer } from '../billing/customers.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  emptyable,
  intBetween,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  text,
  webAddress,
} from '../params.ts';
import { configurationObject } from '../portal/configurations.ts';
import { createPortalSession } from '../portal/sessions.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { unsupported } from './billing-params.ts';

const features = params({
  customer_update: params({
    enabled: bool.optional(),
    allowed_updates: arrayOf(oneOf('address', 'email', 'name', 'phone', 'shipping', 'tax_id')).optional(),
  }).optional(),
  invoice_history: params({ enabled: bool }).optional(),
  payment_method_update: params({ enabled: bool, ...unsupported('payment_method_configuration') }).optional(),
  subscription_cancel: params({
    enabled: bool.optional(),
    mode: oneOf('at_period_end', 'immediately').optional(),
    proration_behavior: oneOf('always_invoice', 'create_prorations', 'none').optional(),
    cancellation_reason: params({
      enabled: bool,
      options: arrayOf(
        oneOf(
          'customer_service',
          'low_quality',
          'missing_features',
          'other',
          'switched_service',
          'too_complex',
          'too_expensive',
          'unused',
        ),
      ).optional(),
      ...unsupported('feedback_options'),
    }).optional(),
  }).optional(),
  subscription_update: params({
    enabled: bool.optional(),
    billing_cycle_anchor: oneOf('now', 'unchanged').optional(),
    default_allowed_updates: arrayOf(oneOf('price', 'promotion_code', 'quantity')).optional(),
    products: arrayOf(
      params({
        product: text,
        prices: arrayOf(text),
        adjustable_quantity: params({
          enabled: bool,
          maximum: intBetween(1, 999_999).optional(),
          minimum: intBetween(0, 999_999).optional(),
        }).optional(),
      }),
    ).optional(),
    proration_behavior: oneOf('always_invoice', 'create_prorations', 'none').optional(),
    schedule_at_period_end: params({
      conditions: arrayOf(
        params({ type: oneOf('decreasing_item_amount', 'shortening_interval') }),
      ).optional(),
    }).optional(),
    trial_update_behavior: oneOf('continue_trial', 'end_trial').optional(),
  }).optional(),
  ...unsupported('subscription_pause'),
});

const writable = {
  business_profile: params({
    headline: emptyable(text.max(60)).optional(),
    privacy_policy_url: emptyable(webAddress).optional(),
    terms_of_service_url: emptyable(webAddress).optional(),
  }).optional(),
  default_return_url: emptyable(webAddress).optional(),
  login_page: params({ enabled: bool }).optional(),
  metadata: metadata.optional(),
  name: emptyable(text).optional(),
};

const updateParams = params({ ...writable, active: bool.optional(), features: features.optional() });
type Features = z.output<typeof features>;

/** Portal configurations and sessions. */
export const billingPortalRoutes: Route[] = [
  route('POST', '/v1/billing_portal/configurations', params({ ...writable, features }), (world, given) =>
    world.add(
      'billing_portal.configuration',
      changed(
        world,
        configurationObject(world, { features: featuresFrom(world, given.features, null) }),
        given,
      ),
      'billing_portal.configuration.created',
    ),
  ),
  route('GET', '/v1/billing_portal/configurations/:id', params({}), (world, _given, id) =>
    world.get('billing_portal.configuration', id, 'configuration'),
  ),
  route('POST', '/v1/billing_portal/configurations/:id', updateParams, (world, given, id) => {
    const before = world.get('billing_portal.configuration', id, 'configuration');
    return world.change(
      'billing_portal.configuration',
      id,
      {
        ...changed(world, before, given),
        ...(given.active === undefined ? {} : { active: given.active }),
        updated: world.now(),
      },
      'billing_portal.configuration.updated',
    );
  }),
  listRoute(
    'billing_portal.configuration',
    '/v1/billing_portal/configurations',
    { active: bool.optional(), is_default: bool.optional() },
    (configuration, given) =>
      (given.active === undefined || configuration.active === given.active) &&
      (given.is_default === undefined || configuration.is_default === given.is_default),
  ),
  route(
    'POST',
    '/v1/billing_portal/sessions',
    params({
      configuration: text.optional(),
      customer: text,
      locale: text.optional(),
      return_url: webAddress.optional(),
      ...unsupported('after_expiration', 'customer_account', 'flow_data', 'on_behalf_of'),
    }),
    (world, given) =>
      createPortalSession(world, {
        customer: livingCustomer(world, given.customer).id,
        configuration: given.configuration ?? null,
        returnUrl: given.return_url ?? null,
        locale: given.locale ?? null,
        flow: null,
      }),
  ),
];

function changed(
  world: World,
  before: Stripe.BillingPortal.Configuration,
  given: z.output<typeof updateParams>,
): Stripe.BillingPortal.Configuration {
  const profile = given.business_profile;
  return {
    ...before,
    business_profile: {
      headline: profile?.headline === undefined ? before.business_profile.headline : profile.headline,
      privacy_policy_url:
        profile?.privacy_policy_url === undefined
          ? before.business_profile.privacy_policy_url
          : profile.privacy_policy_url,
      terms_of_service_url:
        profile?.terms_of_service_url === undefined
          ? before.business_profile.terms_of_service_url
          : profile.terms_of_service_url,
    },
    default_return_url:
      given.default_return_url === undefined ? before.default_return_url : given.default_return_url,
    login_page: given.login_page ? { enabled: given.login_page.enabled, url: null } : before.login_page,
    metadata: mergeMetadata(before.metadata ?? {}, given.metadata),
    name: given.name === undefined ? before.name : given.name,
    features: given.features ? featuresFrom(world, given.features, before.features) : before.features,
  };
}

/** Given features over those before; what was never said is off, as with Stripe. */
function featuresFrom(
  world: World,
  given: Features,
  before: Stripe.BillingPortal.Configuration.Features | null,
): Stripe.BillingPortal.Configuration.Features {
  const { customer_update: customer, subscription_cancel: cancel, subscription_update: update } = given;
  const was = before?.subscription_update;
  return {
    customer_update: {
      allowed_updates: customer?.allowed_updates ?? before?.customer_update.allowed_updates ?? [],
      enabled: customer?.enabled ?? before?.customer_update.enabled ?? false,
    },
    invoice_history: { enabled: given.invoice_history?.enabled ?? before?.invoice_history.enabled ?? false },
    payment_method_update: {
      enabled: given.payment_method_update?.enabled ?? before?.payment_method_update.enabled ?? false,
      payment_method_configuration: null,
    },
    subscription_cancel: {
      cancellation_reason: {
        enabled:
          cancel?.cancellation_reason?.enabled ??
          before?.subscription_cancel.cancellation_reason.enabled ??
          false,
        feedback_options: null,
        options:
          cancel?.cancellation_reason?.options ??
          before?.subscription_cancel.cancellation_reason.options ??
          [],
      },
      enabled: cancel?.enabled ?? before?.subscription_cancel.enabled ?? false,
      mode: cancel?.mode ?? before?.subscription_cancel.mode ?? 'at_period_end',
      proration_behavior:
        cancel?.proration_behavior ?? before?.subscription_cancel.proration_behavior ?? 'none',
    },
    subscription_pause: { duration: { interval_options: [], type: 'indefinite' }, enabled: false },
    subscription_update: {
      billing_cycle_anchor: update?.billing_cycle_anchor ?? was?.billing_cycle_anchor ?? 'unchanged',
      default_allowed_updates: update?.default_allowed_updates ?? was?.default_allowed_updates ?? [],
      enabled: update?.enabled ?? was?.enabled ?? false,
      products: update?.products
        ? update.products.map((product) => offered(world, product))
        : (was?.products ?? null),
      proration_behavior: update?.proration_behavior ?? was?.proration_behavior ?? 'none',
      schedule_at_period_end: {
        conditions:
          update?.schedule_at_period_end?.conditions ?? was?.schedule_at_period_end.conditions ?? [],
      },
      trial_update_behavior: update?.trial_update_behavior ?? was?.trial_update_behavior ?? 'end_trial',
    },
  };
}

type Offered = NonNullable<NonNullable<Features['subscription_update']>['products']>[number];

function offered(
  world: World,
  given: Offered,
): Stripe.BillingPortal.Configuration.Features.SubscriptionUpdate.Product {
  const quantity = given.adjustable_quantity;
  for (const price of given.prices) world.get('price', price, 'features[subscription_update][products]');
  return {
    adjustable_quantity: {
      enabled: quantity?.enabled ?? false,
      maximum: quantity?.maximum ?? null,
      minimum: quantity?.minimum ?? 1,
    },
    prices: given.prices,
    product: world.get('product', given.product, 'features[subscription_update][products]').id,
  };
}

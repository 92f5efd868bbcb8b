import type Stripe from 'stripe';
import type { World } from '../world.ts';

/** The configuration used where a session names none; made on first need with everything switched on. */
export function defaultConfiguration(world: World): Stripe.BillingPortal.Configuration {
  for (const configuration of world.newestFirst('billing_portal.configuration'))
    if (configuration.is_default) return configuration;
  const configuration = configurationObject(world, {
    is_default: true,
    features: {
      customer_update: { allowed_updates: ['email', 'name', 'address'], enabled: true },
      invoice_history: { enabled: true },
      payment_method_update: { enabled: true, payment_method_configuration: null },
      subscription_cancel: {
        cancellation_reason: { enabled: false, feedback_options: null, options: [] },
        enabled: true,
        mode: 'at_period_end',
        proration_behavior: 'none',
      },
      subscription_pause: { duration: { interval_options: [], type: 'indefinite' }, enabled: false },
      subscription_update: {
        billing_cycle_anchor: 'unchanged',
        default_allowed_updates: ['price'],
        enabled: true,
        products: null,
        proration_behavior: 'always_invoice',
        schedule_at_period_end: {
          conditions: [{ type: 'decreasing_item_amount' }, { type: 'shortening_interval' }],
        },
        trial_update_behavior: 'end_trial',
      },
    },
  });
  return world.add('billing_portal.configuration', configuration);
}

/** A configuration in full. Nothing is stored. */
export function configurationObject(
  world: World,
  given: Pick<Stripe.BillingPortal.Configuration, 'features'> & Partial<Stripe.BillingPortal.Configuration>,
): Stripe.BillingPortal.Configuration {
  const now = world.now();
  return {
    id: world.newId('billing_portal.configuration'),
    object: 'billing_portal.configuration',
    active: true,
    application: null,
    business_profile: { headline: null, privacy_policy_url: null, terms_of_service_url: null },
    created: now,
    default_return_url: null,
    is_default: false,
    livemode: false,
    login_page: { enabled: false, url: null },
    metadata: {},
    name: null,
    updated: now,
    ...given,
  };
}

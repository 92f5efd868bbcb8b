import type Stripe from 'stripe';

interface PhaseItem {
  readonly price: string;
  readonly quantity: number;
  readonly metadata: Stripe.Metadata;
}

export interface NewPhase {
  readonly items: readonly PhaseItem[];
  readonly start: number;
  readonly end: number;
  readonly currency: string;
  readonly prorationBehavior: 'create_prorations' | 'none' | 'always_invoice';
  readonly metadata: Stripe.Metadata;
  readonly description: string | null;
  readonly trialEnd: number | null;
}

/** A phase in full. */
export function phaseObject(given: NewPhase): Stripe.SubscriptionSchedule.Phase {
  return {
    add_invoice_items: [],
    application_fee_percent: null,
    billing_cycle_anchor: null,
    billing_thresholds: null,
    collection_method: null,
    currency: given.currency,
    default_payment_method: null,
    default_tax_rates: [],
    description: given.description,
    discounts: [],
    end_date: given.end,
    invoice_settings: null,
    items: given.items.map((item) => ({
      billing_thresholds: null,
      discounts: [],
      metadata: item.metadata,
      plan: item.price,
      price: item.price,
      quantity: item.quantity,
      tax_rates: [],
    })),
    metadata: given.metadata,
    on_behalf_of: null,
    proration_behavior: given.prorationBehavior,
    start_date: given.start,
    transfer_data: null,
    trial_end: given.trialEnd,
  };
}

/** A schedule in full, not yet begun or already running as its status says. */
export function scheduleObject(
  given: Pick<
    Stripe.SubscriptionSchedule,
    | 'created'
    | 'current_phase'
    | 'customer'
    | 'end_behavior'
    | 'id'
    | 'metadata'
    | 'phases'
    | 'status'
    | 'subscription'
    | 'test_clock'
  >,
): Stripe.SubscriptionSchedule {
  return {
    object: 'subscription_schedule',
    application: null,
    billing_mode: { flexible: { proration_discounts: 'included' }, type: 'flexible' },
    canceled_at: null,
    completed_at: null,
    customer_account: null,
    default_settings: {
      application_fee_percent: null,
      automatic_tax: { disabled_reason: null, enabled: false, liability: null },
      billing_cycle_anchor: 'automatic',
      billing_thresholds: null,
      collection_method: 'charge_automatically',
      default_payment_method: null,
      description: null,
      invoice_settings: {
        account_tax_ids: null,
        custom_fields: null,
        days_until_due: null,
        description: null,
        footer: null,
        issuer: { type: 'self' },
      },
      on_behalf_of: null,
      transfer_data: null,
    },
    livemode: false,
    pause_schedules: [],
    released_at: null,
    released_subscription: null,
    ...given,
  };
}

import { randomBytes } from 'node:crypto';
import type Stripe from 'stripe';
import { listOf } from '../list.ts';
import type { World } from '../world.ts';
import type { Period } from './periods.ts';
import { planOf } from './prices.ts';

/** What was asked for as one item: a price that exists and how many of it. */
export interface WantedItem {
  readonly price: Stripe.Price;
  readonly quantity: number;
  readonly metadata: Stripe.Metadata;
}

/** A subscription item in full. Its subscription is remembered, so that the item is found by its id. */
export function newItem(
  world: World,
  subscription: string,
  wanted: WantedItem,
  period: Period,
  now: number,
): Stripe.SubscriptionItem {
  const id = `si_${randomBytes(12).toString('hex')}`;
  world.hidden.put('subscription_of_item', id, { subscription });
  return {
    id,
    object: 'subscription_item',
    billing_thresholds: null,
    created: now,
    current_period_end: period.end,
    current_period_start: period.start,
    current_trial: null,
    discounts: [],
    metadata: wanted.metadata,
    plan: planOf(wanted.price),
    price: wanted.price,
    quantity: wanted.quantity,
    subscription,
    tax_rates: [],
  };
}

/** The list of items within a subscription. */
export function itemList(
  subscription: string,
  items: Stripe.SubscriptionItem[],
): Stripe.ApiList<Stripe.SubscriptionItem> {
  return listOf(items, `/v1/subscription_items?subscription=${subscription}`);
}

type Chosen =
  | 'billing_cycle_anchor'
  | 'customer'
  | 'created'
  | 'currency'
  | 'id'
  | 'items'
  | 'latest_invoice'
  | 'status';

/** A subscription in full, with what is given and Stripe's defaults for the rest. Nothing is stored. */
export function subscriptionObject(
  given: Pick<Stripe.Subscription, Chosen> & Partial<Stripe.Subscription>,
): Stripe.Subscription {
  return {
    object: 'subscription',
    application: null,
    application_fee_percent: null,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null },
    billing_cycle_anchor_config: null,
    billing_mode: { flexible: { proration_discounts: 'included' }, type: 'flexible' },
    billing_schedules: [],
    billing_thresholds: null,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, feedback_option: null, reason: null },
    collection_method: 'charge_automatically',
    customer_account: null,
    days_until_due: null,
    default_payment_method: null,
    default_source: null,
    default_tax_rates: [],
    description: null,
    discounts: [],
    ended_at: null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: 'self' },
    },
    livemode: false,
    managed_payments: { enabled: false },
    metadata: {},
    next_pending_invoice_item_invoice: null,
    on_behalf_of: null,
    pause_collection: null,
    payment_settings: {
      payment_method_options: null,
      payment_method_types: null,
      save_default_payment_method: 'off',
    },
    pending_invoice_item_interval: null,
    pending_setup_intent: null,
    pending_update: null,
    schedule: null,
    start_date: given.created,
    test_clock: null,
    transfer_data: null,
    trial_end: null,
    trial_settings: {
      end_behavior: { billing_cycle_anchor: null, missing_payment_method: 'create_invoice' },
    },
    trial_start: null,
    ...given,
  };
}

/** The end of the current period: the earliest where items differ. */
export function periodEnd(subscription: Stripe.Subscription): number {
  return Math.min(...subscription.items.data.map((item) => item.current_period_end));
}

/** The start of the current period: the latest where items differ. */
export function periodStart(subscription: Stripe.Subscription): number {
  return Math.max(...subscription.items.data.map((item) => item.current_period_start));
}

/** Whether a subscription is over and can never come back. */
export function isOver(subscription: Stripe.Subscription): boolean {
  return subscription.status === 'canceled' || subscription.status === 'incomplete_expired';
}

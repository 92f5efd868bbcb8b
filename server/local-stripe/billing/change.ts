import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import { declineError } from '../payments.ts';
import type { World } from '../world.ts';
import { collectInvoice, customerPaymentMethod } from './collect.ts';
import { idOf } from './customers.ts';
import { debitOf, debitsOf, setDebits } from './debits.ts';
import { addInvoiceItem, lineOfItem, pendingItems } from './invoice-items.ts';
import { paymentIntentOf } from './invoice-payments.ts';
import { createInvoice, finalizeInvoice } from './invoices.ts';
import { type ChangePlan, planChange, type WantedChange } from './plan-change.ts';
import { undone } from './start.ts';
import { isOver, itemList, periodStart } from './subscription-object.ts';
import { arm } from './timers.ts';

export interface SubscriptionChange extends WantedChange {
  /** `error_if_declined` is the portal's: a decline undoes the change, 3D Secure may still follow. */
  readonly paymentBehavior:
    | 'allow_incomplete'
    | 'default_incomplete'
    | 'error_if_incomplete'
    | 'error_if_declined';
  readonly offSession: boolean;
  /** Fields that are simply kept: metadata, description, cancellation, default payment method … */
  readonly fields: Partial<Stripe.Subscription>;
}

/** A change of nothing, to build others from. */
export const NO_CHANGE: SubscriptionChange = {
  items: [],
  prorationBehavior: 'create_prorations',
  prorationDate: null,
  anchorNow: false,
  trialEnd: undefined,
  paymentBehavior: 'allow_incomplete',
  offSession: false,
  fields: {},
};

/**
 * Changes a subscription: prorates, tells `customer.subscription.updated` once, and bills at once where asked or
 * where a new period begins. Throws 402 and undoes all with `error_if_incomplete`.
 */
export function changeSubscription(
  world: World,
  id: string,
  change: SubscriptionChange,
): Stripe.Subscription {
  const subscription = world.get('subscription', id);
  if (isOver(subscription))
    throw invalidRequest('A canceled subscription can only update its cancellation_details and metadata.');
  const now = world.now(idOf(subscription.test_clock));
  const plan = planChange(world, subscription, change, now);
  if (pausesInstead(world, subscription, plan, change))
    return pauseSubscription(world, subscription, now, change.fields);
  const created = takeProrations(world, subscription, plan);
  const bills =
    plan.newPeriod.length > 0 || (change.prorationBehavior === 'always_invoice' && created.length > 0);
  const invoice = bills ? world.newId('invoice') : null;
  const after = world.change(
    'subscription',
    id,
    {
      ...change.fields,
      items: itemList(id, plan.items),
      billing_cycle_anchor: plan.anchor,
      ...trialFields(subscription, plan, now),
      ...(invoice === null ? {} : { latest_invoice: invoice }),
    },
    'customer.subscription.updated',
  );
  arm(world, after);
  if (invoice !== null) billChange(world, subscription, after, invoice, plan, change, now);
  return world.get('subscription', id);
}

/**
 * Sets a subscription aside whose trial ends without a payment method. Whether Stripe takes the details away when
 * it is resumed is not known; here they stay, so whoever reads them has to look at the status first.
 */
export function pauseSubscription(
  world: World,
  subscription: Stripe.Subscription,
  now: number,
  fields: Partial<Stripe.Subscription> = {},
): Stripe.Subscription {
  const paused = world.change(
    'subscription',
    subscription.id,
    {
      ...fields,
      status: 'paused',
      status_details: {
        paused: {
          subscription: { type: 'trial_end_without_payment_method' },
          transitioned_at: now,
          type: 'subscription',
        },
      },
      trial_end: Math.min(now, subscription.trial_end ?? now),
    },
    'customer.subscription.updated',
  );
  world.emit('customer.subscription.paused', paused);
  arm(world, paused);
  return world.get('subscription', subscription.id);
}

function takeProrations(
  world: World,
  subscription: Stripe.Subscription,
  plan: ChangePlan,
): readonly Stripe.InvoiceItem[] {
  const customer = idOf(subscription.customer);
  if (customer === null) return [];
  const credited = new Set(plan.credited.map(({ debit }) => debit));
  const created = plan.prorations.map((line) => ({ line, item: addInvoiceItem(world, customer, line) }));
  const kept = debitsOf(world, subscription.id).filter((debit) => !credited.has(debit));
  const charged = created.flatMap(({ line, item }) => debitOf(line, item.id) ?? []);
  setDebits(world, subscription.id, [...kept, ...charged]);
  return created.map(({ item }) => item);
}

function trialFields(
  subscription: Stripe.Subscription,
  plan: ChangePlan,
  now: number,
): Partial<Stripe.Subscription> {
  if (plan.trial === 'unchanged') return {};
  if (plan.trial === 'ended') return { status: 'active', trial_end: now };
  return { status: 'trialing', trial_start: subscription.trial_start ?? now, trial_end: plan.trial.end };
}

function pausesInstead(
  world: World,
  subscription: Stripe.Subscription,
  plan: ChangePlan,
  { fields }: SubscriptionChange,
): boolean {
  const settings = fields.trial_settings ?? subscription.trial_settings;
  return (
    plan.trial === 'ended' &&
    settings?.end_behavior.missing_payment_method === 'pause' &&
    idOf(fields.default_payment_method ?? subscription.default_payment_method) === null &&
    customerPaymentMethod(world, idOf(subscription.customer)) === null
  );
}

function billChange(
  world: World,
  before: Stripe.Subscription,
  subscription: Stripe.Subscription,
  id: string,
  plan: ChangePlan,
  change: SubscriptionChange,
  now: number,
): void {
  const customer = idOf(subscription.customer);
  if (customer === null) return;
  const pending = pendingItems(world, customer, subscription.id).map((item) => lineOfItem(world, item));
  createInvoice(world, {
    id,
    customer,
    subscription,
    reason: plan.trial === 'ended' ? 'subscription_cycle' : 'subscription_update',
    lines: [...pending, ...plan.newPeriod],
    currency: subscription.currency,
    period: { start: periodStart(before), end: now },
    collectionMethod:
      subscription.collection_method === 'send_invoice' ? 'send_invoice' : 'charge_automatically',
    daysUntilDue: subscription.days_until_due,
    ...(change.prorationDate === null ? {} : { prorationDate: change.prorationDate }),
  });
  const open = finalizeInvoice(world, id);
  if (open.status !== 'open' || subscription.collection_method === 'send_invoice') return;
  if (change.paymentBehavior === 'default_incomplete') return;
  const invoice = collectInvoice(world, id, {
    paymentMethod: null,
    offSession: change.offSession,
    automatic: true,
  });
  if (invoice.status === 'paid' || change.paymentBehavior === 'allow_incomplete') return;
  const intent = paymentIntentOf(world, id);
  if (intent === null || intent.status === 'processing') return;
  if (intent.status === 'requires_action' && change.paymentBehavior === 'error_if_declined') return;
  throw undone(declineError(intent));
}

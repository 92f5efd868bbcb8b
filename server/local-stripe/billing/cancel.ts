import type Stripe from 'stripe';
import { resourceMissing } from '../errors.ts';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';
import { debitsOf, setDebits } from './debits.ts';
import { addInvoiceItem, lineOfItem, pendingItems } from './invoice-items.ts';
import { createInvoice, invoicesOf, voidInvoice } from './invoices.ts';
import { planChange } from './plan-change.ts';
import { cancelScheduleOf } from './schedule-state.ts';
import { finalizeAndCollect } from './start.ts';
import { isOver, periodStart } from './subscription-object.ts';
import { disarm } from './timers.ts';

export interface Cancellation {
  /** Credits unused time as pending items. */
  readonly prorate: boolean;
  /** Bills what is pending at once. */
  readonly invoiceNow: boolean;
  readonly details: Partial<Stripe.Subscription.CancellationDetails>;
}

/** Ends a subscription now. One that is over already is Stripe's 404. */
export function cancelSubscription(
  world: World,
  id: string,
  cancellation: Cancellation,
): Stripe.Subscription {
  const subscription = world.get('subscription', id);
  if (isOver(subscription)) throw resourceMissing('subscription', id);
  if (cancellation.prorate) creditUnused(world, subscription);
  if (cancellation.invoiceNow) billPending(world, subscription);
  return endSubscription(world, id, { reason: 'cancellation_requested', ...cancellation.details });
}

/** Makes a subscription canceled and tells `customer.subscription.deleted`. */
export function endSubscription(
  world: World,
  id: string,
  details: Partial<Stripe.Subscription.CancellationDetails>,
): Stripe.Subscription {
  const before = world.get('subscription', id);
  const now = world.now(idOf(before.test_clock));
  disarm(world, id);
  const none = { comment: null, feedback: null, feedback_option: null, reason: null };
  const ended = world.change('subscription', id, {
    status: 'canceled',
    canceled_at: before.canceled_at ?? now,
    ended_at: now,
    cancellation_details: { ...none, ...before.cancellation_details, ...details },
  });
  cancelScheduleOf(world, ended, now);
  world.emit('customer.subscription.deleted', world.get('subscription', id));
  for (const invoice of invoicesOf(world, ended)) {
    if (invoice.status === 'open' && before.status === 'incomplete') voidInvoice(world, invoice.id);
    else if (invoice.status === 'open' || invoice.status === 'draft') stopCollecting(world, invoice.id);
  }
  return world.get('subscription', id);
}

/** Gives up on a first payment that never came. */
export function expireIncomplete(world: World, id: string): void {
  const subscription = world.get('subscription', id);
  if (subscription.status !== 'incomplete') return;
  const now = world.now(idOf(subscription.test_clock));
  disarm(world, id);
  const expired = world.change(
    'subscription',
    id,
    { status: 'incomplete_expired', ended_at: now },
    'customer.subscription.updated',
  );
  cancelScheduleOf(world, expired, now);
  for (const invoice of invoicesOf(world, subscription))
    if (invoice.status === 'open') voidInvoice(world, invoice.id);
}

function stopCollecting(world: World, invoice: string): void {
  world.forget('invoice.retry', invoice);
  world.forget('invoice.finalize', invoice);
  world.change('invoice', invoice, { auto_advance: false, next_payment_attempt: null }, 'invoice.updated');
}

function creditUnused(world: World, subscription: Stripe.Subscription): void {
  const customer = idOf(subscription.customer);
  if (customer === null || debitsOf(world, subscription.id).length === 0) return;
  const now = world.now(idOf(subscription.test_clock));
  const plan = planChange(
    world,
    subscription,
    {
      items: [],
      prorationBehavior: 'create_prorations',
      prorationDate: null,
      anchorNow: true,
      trialEnd: undefined,
    },
    now,
  );
  for (const line of plan.prorations) addInvoiceItem(world, customer, line);
  setDebits(world, subscription.id, []);
}

function billPending(world: World, subscription: Stripe.Subscription): void {
  const customer = idOf(subscription.customer);
  if (customer === null) return;
  const lines = pendingItems(world, customer, subscription.id).map((item) => lineOfItem(world, item));
  if (lines.length === 0) return;
  const now = world.now(idOf(subscription.test_clock));
  const invoice = createInvoice(world, {
    customer,
    subscription,
    reason: 'subscription_update',
    lines,
    currency: subscription.currency,
    period: { start: periodStart(subscription), end: now },
  });
  world.change('subscription', subscription.id, { latest_invoice: invoice.id });
  finalizeAndCollect(world, invoice.id, true);
}

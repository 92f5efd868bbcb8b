import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { endSubscription } from './cancel.ts';
import { pauseSubscription } from './change.ts';
import { customerPaymentMethod } from './collect.ts';
import { idOf } from './customers.ts';
import { lineOfItem, pendingItems } from './invoice-items.ts';
import { createInvoice, finalizeInvoice, markUncollectible, voidInvoice } from './invoices.ts';
import { type DraftLine, periodLine } from './lines.ts';
import { periodAt } from './periods.ts';
import { priceAmount, recurrenceOf } from './prices.ts';
import { beginPhase } from './schedule-phases.ts';
import { scheduleOf } from './schedule-state.ts';
import { billingSettings } from './settings.ts';
import { finalizeAndCollect } from './start.ts';
import { isOver, itemList, periodEnd, periodStart } from './subscription-object.ts';
import { arm } from './timers.ts';

/** The end of a period has come: cancel, change phase, end the trial, or renew and bill. */
export function turnCycle(world: World, id: string, at: number): void {
  const before = world.get('subscription', id);
  if (isOver(before) || before.status === 'incomplete' || before.status === 'paused') return;
  if (before.cancel_at !== null && before.cancel_at <= at) {
    endSubscription(world, id, {});
    return;
  }
  const schedule = scheduleOf(world, before);
  if (schedule?.current_phase && schedule.current_phase.end_date <= at) beginPhase(world, schedule.id, at);
  const subscription = world.get('subscription', id);
  if (isOver(subscription) || periodEnd(subscription) > at) return;
  const trialEnds = subscription.status === 'trialing';
  if (trialEnds && lacksPaymentMethod(world, subscription)) {
    const missing = subscription.trial_settings?.end_behavior.missing_payment_method;
    if (missing === 'pause') {
      pauseSubscription(world, subscription, at);
      return;
    }
    if (missing === 'cancel') {
      endSubscription(world, id, {});
      return;
    }
  }
  renew(world, subscription, at, trialEnds);
}

function renew(world: World, subscription: Stripe.Subscription, at: number, trialEnds: boolean): void {
  const anchor = subscription.billing_cycle_anchor;
  const due = new Set(
    subscription.items.data.filter((item) => item.current_period_end <= at).map((item) => item.id),
  );
  const items = subscription.items.data.map((item) => {
    if (!due.has(item.id)) return item;
    const { start, end } = periodAt(anchor, recurrenceOf(item.price), at);
    return { ...item, current_period_start: start, current_period_end: end };
  });
  const invoice = world.newId('invoice');
  const renewed = world.change(
    'subscription',
    subscription.id,
    {
      items: itemList(subscription.id, items),
      latest_invoice: invoice,
      ...(trialEnds ? { status: 'active' } : {}),
    },
    'customer.subscription.updated',
  );
  arm(world, renewed);
  billCycle(world, subscription, renewed, invoice, [...renewalLines(world, items, due)], at);
}

/** The full price of each item whose period begins. */
export function renewalLines(
  world: World,
  items: readonly Stripe.SubscriptionItem[],
  due: ReadonlySet<string>,
): readonly DraftLine[] {
  return items
    .filter(({ id }) => due.has(id))
    .map((item) => periodLine(world, item, priceAmount(item.price, item.quantity ?? 1), false));
}

function billCycle(
  world: World,
  before: Stripe.Subscription,
  subscription: Stripe.Subscription,
  id: string,
  lines: readonly DraftLine[],
  at: number,
): void {
  const customer = idOf(subscription.customer);
  if (customer === null) return;
  const pending = [subscription.id, null].flatMap((owner) => pendingItems(world, customer, owner));
  const paused = subscription.pause_collection?.behavior ?? null;
  const collects = subscription.status !== 'unpaid' && paused !== 'keep_as_draft';
  createInvoice(world, {
    id,
    customer,
    subscription,
    reason: 'subscription_cycle',
    lines: [...pending.map((item) => lineOfItem(world, item)), ...lines],
    currency: subscription.currency,
    period: { start: periodStart(before), end: at },
    autoAdvance: collects,
    collectionMethod:
      subscription.collection_method === 'send_invoice' ? 'send_invoice' : 'charge_automatically',
    daysUntilDue: subscription.days_until_due,
    description: subscription.invoice_settings.description,
    footer: subscription.invoice_settings.footer,
  });
  if (!collects) return;
  const { draftSeconds } = billingSettings(world);
  if (draftSeconds > 0) world.wake('invoice.finalize', id, at + draftSeconds, idOf(subscription.test_clock));
  else advanceInvoice(world, id);
}

/** A draft's time has come: finalize it and charge it, or what `pause_collection` says instead. */
export function advanceInvoice(world: World, id: string): void {
  const invoice = world.get('invoice', id);
  if (invoice.status !== 'draft' || invoice.auto_advance !== true) return;
  const owner = invoice.parent?.subscription_details?.subscription;
  const subscription = idOf(owner);
  const pause = subscription === null ? null : world.get('subscription', subscription).pause_collection;
  switch (pause?.behavior) {
    case 'void':
      finalizeInvoice(world, id);
      if (world.get('invoice', id).status === 'open') voidInvoice(world, id);
      return;
    case 'mark_uncollectible':
      finalizeInvoice(world, id);
      if (world.get('invoice', id).status === 'open') markUncollectible(world, id);
      return;
    default:
      finalizeAndCollect(world, id, true);
  }
}

function lacksPaymentMethod(world: World, subscription: Stripe.Subscription): boolean {
  return (
    idOf(subscription.default_payment_method) === null &&
    customerPaymentMethod(world, idOf(subscription.customer)) === null
  );
}

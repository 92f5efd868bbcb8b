import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { bookedChange, endsBeforeRenewal } from './booked.ts';
import { idOf } from './customers.ts';
import { renewalLines } from './cycle.ts';
import { lineOfItem, pendingItems } from './invoice-items.ts';
import { draftInvoice } from './invoice-object.ts';
import type { DraftLine } from './lines.ts';
import { periodAt } from './periods.ts';
import { recurrenceOf } from './prices.ts';
import { itemList, periodEnd, periodStart } from './subscription-object.ts';

/**
 * The invoice that the next renewal would make, with what is booked by then, not stored; `extra` are prorations not
 * yet pending.
 */
export function upcomingInvoice(
  world: World,
  before: Stripe.Subscription,
  extra: readonly DraftLine[],
  id: string,
): Stripe.Invoice {
  const booked = bookedChange(world, before);
  const subscription = booked?.subscription ?? before;
  const beginsAnew = booked !== null && booked.newPeriod.length > 0;
  const at = beginsAnew ? booked.at : periodEnd(before);
  const { items, lines } = beginsAnew
    ? { items: subscription.items.data, lines: booked.newPeriod }
    : renewed(world, subscription, at);
  const customer = idOf(subscription.customer) ?? '';
  const pending = [subscription.id, null].flatMap((owner) => pendingItems(world, customer, owner));
  const invoice = draftInvoice(
    world,
    {
      customer,
      subscription: { ...subscription, items: itemList(subscription.id, items) },
      reason: 'upcoming',
      lines: [
        ...pending.map((item) => lineOfItem(world, item)),
        ...extra,
        ...(booked?.prorations ?? []),
        ...lines,
      ],
      currency: subscription.currency,
      period: { start: periodStart(before), end: at },
    },
    id,
  );
  const owed = invoice.total + invoice.starting_balance;
  return {
    ...invoice,
    amount_due: Math.max(0, owed),
    amount_remaining: Math.max(0, owed),
    ending_balance: Math.min(0, owed),
    next_payment_attempt: at + 3600,
  };
}

/** The items whose next period begins at a moment, and what that bills. */
function renewed(world: World, subscription: Stripe.Subscription, at: number) {
  const anchor = subscription.billing_cycle_anchor;
  const due = new Set(
    subscription.items.data.filter((item) => item.current_period_end <= at).map((item) => item.id),
  );
  const items = subscription.items.data.map((item) => {
    const { start, end } = periodAt(anchor, recurrenceOf(item.price), at);
    return due.has(item.id) ? { ...item, current_period_start: start, current_period_end: end } : item;
  });
  return { items, lines: renewalLines(world, items, due) };
}

/** Tells `invoice.upcoming`, whose invoice has no id yet. */
export function announceUpcoming(world: World, subscription: Stripe.Subscription): void {
  if (endsBeforeRenewal(world, subscription)) return;
  const { id: _, ...invoice } = upcomingInvoice(world, subscription, [], 'upcoming');
  world.emit('invoice.upcoming', invoice);
}

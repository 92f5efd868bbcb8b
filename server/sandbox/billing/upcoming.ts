import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';
import { renewalLines } from './cycle.ts';
import { lineOfItem, pendingItems } from './invoice-items.ts';
import { draftInvoice } from './invoice-object.ts';
import type { DraftLine } from './lines.ts';
import { periodAt } from './periods.ts';
import { recurrenceOf } from './prices.ts';
import { itemList, periodEnd, periodStart } from './subscription-object.ts';

/** The invoice that the next renewal would make, not stored; `extra` are prorations not yet pending. */
export function upcomingInvoice(
  world: World,
  subscription: Stripe.Subscription,
  extra: readonly DraftLine[],
  id: string,
): Stripe.Invoice {
  const at = periodEnd(subscription);
  const anchor = subscription.billing_cycle_anchor;
  const due = new Set(
    subscription.items.data.filter((item) => item.current_period_end <= at).map((item) => item.id),
  );
  const items = subscription.items.data.map((item) => {
    const { start, end } = periodAt(anchor, recurrenceOf(item.price), at);
    return due.has(item.id) ? { ...item, current_period_start: start, current_period_end: end } : item;
  });
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
        ...renewalLines(world, items, due),
      ],
      currency: subscription.currency,
      period: { start: periodStart(subscription), end: at },
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

/** Tells `invoice.upcoming`, whose invoice has no id yet. */
export function announceUpcoming(world: World, subscription: Stripe.Subscription): void {
  const { id: _, ...invoice } = upcomingInvoice(world, subscription, [], 'upcoming');
  world.emit('invoice.upcoming', invoice);
}

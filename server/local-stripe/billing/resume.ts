import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';
import { renewalLines } from './cycle.ts';
import { createInvoice } from './invoices.ts';
import { boundary, periodAt } from './periods.ts';
import { recurrenceOf } from './prices.ts';
import { finalizeAndCollect } from './start.ts';
import { itemList } from './subscription-object.ts';
import { arm } from './timers.ts';

/** Resumes a paused subscription: bills a period, and becomes active once that is paid. */
export function resumeSubscription(
  world: World,
  id: string,
  anchorAt: 'now' | 'unchanged',
): Stripe.Subscription {
  const paused = world.get('subscription', id);
  const customer = idOf(paused.customer);
  if (paused.status !== 'paused' || customer === null)
    throw invalidRequest('You can only resume a subscription that is paused.');
  const now = world.now(idOf(paused.test_clock));
  const anchor = anchorAt === 'now' ? now : paused.billing_cycle_anchor;
  const items = paused.items.data.map((item) => {
    const recurrence = recurrenceOf(item.price);
    const { start, end } =
      anchorAt === 'now'
        ? { start: now, end: boundary(now, recurrence, 1) }
        : periodAt(anchor, recurrence, now);
    return { ...item, current_period_start: start, current_period_end: end };
  });
  const invoice = world.newId('invoice');
  const resumed = world.change(
    'subscription',
    id,
    { items: itemList(id, items), billing_cycle_anchor: anchor, latest_invoice: invoice },
    'customer.subscription.updated',
  );
  createInvoice(world, {
    id: invoice,
    customer,
    subscription: resumed,
    reason: 'subscription_cycle',
    lines: renewalLines(world, items, new Set(items.map((item) => item.id))),
    currency: resumed.currency,
    period: { start: now, end: now },
  });
  // Becoming active and telling `customer.subscription.resumed` follow from `invoice.paid`.
  finalizeAndCollect(world, invoice, false);
  arm(world, world.get('subscription', id));
  return world.get('subscription', id);
}

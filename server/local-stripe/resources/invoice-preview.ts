import type Stripe from 'stripe';
import type { z } from 'zod';
import { endsBeforeRenewal } from '../billing/booked.ts';
import { idOf, livingCustomer } from '../billing/customers.ts';
import { renewalLines } from '../billing/cycle.ts';
import { keepLines } from '../billing/first-lines.ts';
import { lineOfItem, pendingItems } from '../billing/invoice-items.ts';
import { draftInvoice } from '../billing/invoice-object.ts';
import { boundary } from '../billing/periods.ts';
import { planChange, type WantedChange } from '../billing/plan-change.ts';
import { recurrenceOf } from '../billing/prices.ts';
import {
  isOver,
  itemList,
  newItem,
  periodStart,
  subscriptionObject,
} from '../billing/subscription-object.ts';
import { upcomingInvoice } from '../billing/upcoming.ts';
import { invalidRequest } from '../errors.ts';
import { arrayOf, bool, currency, emptyable, oneOf, params, text, timestamp } from '../params.ts';
import type { World } from '../world.ts';
import {
  cancelAt,
  onlyDisabled,
  prorationBehavior,
  trialEnd,
  unsupported,
  wantedItems,
} from './billing-params.ts';
import { changedItem, itemChange } from './item-params.ts';

export const previewParams = params({
  automatic_tax: onlyDisabled.optional(),
  currency: currency.optional(),
  customer: text.optional(),
  preview_mode: oneOf('next', 'recurring').optional(),
  schedule: text.optional(),
  subscription: text.optional(),
  subscription_details: params({
    billing_cycle_anchor: oneOf('now', 'unchanged').optional(),
    cancel_at: emptyable(cancelAt).optional(),
    cancel_at_period_end: bool.optional(),
    items: arrayOf(changedItem).optional(),
    proration_behavior: prorationBehavior.optional(),
    proration_date: timestamp.optional(),
    trial_end: trialEnd.optional(),
    ...unsupported(
      'billing_mode',
      'billing_schedules',
      'cancel_now',
      'default_tax_rates',
      'metadata',
      'pause',
      'resume_at',
      'start_date',
    ),
  }).optional(),
  ...unsupported(
    'customer_account',
    'customer_details',
    'discounts',
    'invoice_items',
    'issuer',
    'on_behalf_of',
    'schedule_details',
  ),
});

type Given = z.output<typeof previewParams>;

/**
 * The next invoice of a subscription as it is or as it would be after a change, or the first of one not yet
 * created. Nothing is stored.
 */
export function previewInvoice(world: World, given: Given): Stripe.Invoice {
  const id = `upcoming_${world.newId('invoice')}`;
  const invoice = previewed(world, given, id);
  keepLines(world, invoice);
  return invoice;
}

function previewed(world: World, given: Given, id: string): Stripe.Invoice {
  const about = given.schedule === undefined ? given.subscription : subscriptionOf(world, given);
  if (about === undefined) return previewFirst(world, given, id);
  const subscription = world.get('subscription', about, 'subscription');
  if (given.customer !== undefined && given.customer !== idOf(subscription.customer))
    throw invalidRequest('The subscription does not belong to this customer.', { param: 'subscription' });
  const details = given.subscription_details;
  const ends = details?.cancel_at_period_end ?? endsBeforeRenewal(world, subscription);
  if (isOver(subscription) || (ends && details?.cancel_at !== null))
    throw invalidRequest('No upcoming invoices for this subscription: it is canceled or about to be.', {
      code: 'invoice_upcoming_none',
      param: 'subscription',
    });
  const wanted = wantedChange(world, subscription, given);
  if (wanted === null) return upcomingInvoice(world, subscription, [], id);
  const plan = planChange(world, subscription, wanted, world.now(idOf(subscription.test_clock)));
  const billsNow =
    plan.newPeriod.length > 0 ||
    (wanted.prorationBehavior === 'always_invoice' && plan.prorations.length > 0);
  const after = {
    ...subscription,
    items: itemList(subscription.id, plan.items),
    billing_cycle_anchor: plan.anchor,
  };
  // What is asked about stands in the place of what is booked.
  if (!billsNow) return upcomingInvoice(world, { ...after, schedule: null }, plan.prorations, id);
  return withBalance(
    draftInvoice(
      world,
      {
        customer: idOf(subscription.customer) ?? '',
        subscription: after,
        reason: 'upcoming',
        lines: [
          ...pendingItems(world, idOf(subscription.customer) ?? '', subscription.id).map((item) =>
            lineOfItem(world, item),
          ),
          ...plan.prorations,
          ...plan.newPeriod,
        ],
        currency: subscription.currency,
        period: { start: periodStart(subscription), end: world.now(idOf(subscription.test_clock)) },
        ...(wanted.prorationDate === null ? {} : { prorationDate: wanted.prorationDate }),
      },
      id,
    ),
  );
}

/** The subscription of a schedule, which is previewed with what is booked on it. */
function subscriptionOf(world: World, given: Given): string {
  if (given.subscription !== undefined || given.subscription_details !== undefined)
    throw invalidRequest('You cannot pass `schedule` together with subscription fields.', {
      param: 'schedule',
    });
  const schedule = world.get('subscription_schedule', given.schedule ?? '', 'schedule');
  const subscription = idOf(schedule.subscription);
  if (subscription === null)
    throw invalidRequest('The local Stripe previews no schedule that has not begun.', { param: 'schedule' });
  return subscription;
}

function wantedChange(world: World, subscription: Stripe.Subscription, given: Given): WantedChange | null {
  const details = given.subscription_details;
  if (
    details?.items === undefined &&
    details?.billing_cycle_anchor !== 'now' &&
    details?.trial_end === undefined
  )
    return null;
  return {
    items: (details.items ?? []).map((item, at) =>
      itemChange(world, subscription, item, `subscription_details[items][${at}]`),
    ),
    prorationBehavior: details.proration_behavior ?? 'create_prorations',
    prorationDate: details.proration_date ?? null,
    anchorNow: details.billing_cycle_anchor === 'now',
    trialEnd: details.trial_end,
  };
}

function previewFirst(world: World, given: Given, id: string): Stripe.Invoice {
  const wanted = given.subscription_details?.items;
  if (given.customer === undefined || wanted === undefined)
    throw invalidRequest('Pass a subscription, or a customer and subscription_details[items].', {
      code: 'invoice_upcoming_none',
    });
  const customer = livingCustomer(world, given.customer);
  const clock = idOf(customer.test_clock);
  const now = world.now(clock);
  const items = wantedItems(world, wanted, 'subscription_details[items]').map((item) =>
    newItem(world, '', item, { start: now, end: boundary(now, recurrenceOf(item.price), 1) }, now),
  );
  const subscription = subscriptionObject({
    id: '',
    billing_cycle_anchor: now,
    created: now,
    currency: items[0]?.price.currency ?? 'usd',
    customer: customer.id,
    items: itemList('', items),
    latest_invoice: null,
    status: 'active',
  });
  const draft = draftInvoice(
    world,
    {
      customer: customer.id,
      subscription: null,
      reason: 'upcoming',
      lines: renewalLines(world, items, new Set(items.map((item) => item.id))),
      currency: subscription.currency,
      period: { start: now, end: now },
    },
    id,
  );
  return withBalance(draft);
}

function withBalance(invoice: Stripe.Invoice): Stripe.Invoice {
  const owed = invoice.total + invoice.starting_balance;
  return {
    ...invoice,
    amount_due: Math.max(0, owed),
    amount_remaining: Math.max(0, owed),
    ending_balance: Math.min(0, owed),
  };
}

import type Stripe from 'stripe';
import type { z } from 'zod';
import { cancelSubscription } from '../billing/cancel.ts';
import { changeSubscription, NO_CHANGE } from '../billing/change.ts';
import { clockOfCustomer, idOf, livingCustomer } from '../billing/customers.ts';
import { resumeSubscription } from '../billing/resume.ts';
import { scheduleOf } from '../billing/schedule-state.ts';
import { startSubscription } from '../billing/start.ts';
import { isOver } from '../billing/subscription-object.ts';
import { arm } from '../billing/timers.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  created,
  currency,
  intBetween,
  mergeMetadata,
  oneOf,
  params,
  text,
  timestamp,
} from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import {
  cancellationDetails,
  newItemParams,
  playedBehavior,
  prorationBehavior,
  unsupported,
  wantedItems,
} from './billing-params.ts';
import { changedItem, itemChange } from './item-params.ts';
import { cancelAtTime, keptFields, subscriptionFields } from './subscription-fields.ts';

const DAY = 86_400;

const newSubscription = params({
  ...subscriptionFields,
  billing_cycle_anchor: timestamp.optional(),
  billing_mode: params({ type: oneOf('flexible', 'classic'), ...unsupported('flexible') }).optional(),
  currency: currency.optional(),
  customer: text,
  items: arrayOf(newItemParams),
  trial_period_days: intBetween(0, 730).optional(),
  ...unsupported('backdate_start_date', 'billing_cycle_anchor_config'),
});

const subscriptionUpdate = params({
  ...subscriptionFields,
  billing_cycle_anchor: oneOf('now', 'unchanged').optional(),
  items: arrayOf(changedItem).optional(),
  proration_date: timestamp.optional(),
});

const cancellation = params({
  cancellation_details: cancellationDetails.optional(),
  invoice_now: bool.optional(),
  prorate: bool.optional(),
});

const STATUSES = [
  'active',
  'all',
  'canceled',
  'ended',
  'incomplete',
  'incomplete_expired',
  'past_due',
  'paused',
  'trialing',
  'unpaid',
] as const;

/** Subscriptions. Those that ended are listed only with `status`. */
export const subscriptionRoutes: Route[] = [
  route('POST', '/v1/subscriptions', newSubscription, (world, given) => create(world, given)),
  route('GET', '/v1/subscriptions/:id', params({}), (world, _given, id) => world.get('subscription', id)),
  route('POST', '/v1/subscriptions/:id', subscriptionUpdate, (world, given, id) => update(world, id, given)),
  route('DELETE', '/v1/subscriptions/:id', cancellation, (world, given, id) =>
    cancelSubscription(world, id, {
      prorate: given.prorate ?? false,
      invoiceNow: given.invoice_now ?? false,
      details: {
        ...(given.cancellation_details?.comment ? { comment: given.cancellation_details.comment } : {}),
        ...(given.cancellation_details?.feedback ? { feedback: given.cancellation_details.feedback } : {}),
      },
    }),
  ),
  route(
    'POST',
    '/v1/subscriptions/:id/resume',
    params({
      billing_cycle_anchor: oneOf('now', 'unchanged').optional(),
      proration_behavior: prorationBehavior.optional(),
      ...unsupported('payment_behavior', 'proration_date'),
    }),
    (world, given, id) => resumeSubscription(world, id, given.billing_cycle_anchor ?? 'now'),
  ),
  listRoute(
    'subscription',
    '/v1/subscriptions',
    {
      collection_method: oneOf('charge_automatically', 'send_invoice').optional(),
      current_period_end: created.optional(),
      current_period_start: created.optional(),
      customer: text.optional(),
      price: text.optional(),
      status: oneOf(...STATUSES).optional(),
      test_clock: text.optional(),
      ...unsupported('automatic_tax', 'customer_account', 'plan'),
    },
    (subscription, given) =>
      hasStatus(subscription, given.status) &&
      (given.collection_method === undefined || subscription.collection_method === given.collection_method) &&
      (given.customer === undefined || subscription.customer === given.customer) &&
      (given.test_clock === undefined || subscription.test_clock === given.test_clock) &&
      (given.price === undefined || subscription.items.data.some(({ price }) => price.id === given.price)) &&
      subscription.items.data.some(
        (item) =>
          within(item.current_period_end, given.current_period_end) &&
          within(item.current_period_start, given.current_period_start),
      ),
  ),
];

function create(world: World, given: z.output<typeof newSubscription>): Stripe.Subscription {
  const customer = livingCustomer(world, given.customer);
  const items = wantedItems(world, given.items, 'items');
  const now = world.now(clockOfCustomer(world, customer.id));
  if (given.billing_mode?.type === 'classic')
    throw invalidRequest('The local Stripe supports only billing_mode[type]=flexible.', {
      param: 'billing_mode[type]',
    });
  if (given.trial_end !== undefined && given.trial_period_days !== undefined)
    throw invalidRequest(
      'Received both trial_end and trial_period_days parameters. Please pass in only one.',
      {
        code: 'parameters_exclusive',
      },
    );
  if (given.collection_method === 'send_invoice' && given.days_until_due === undefined)
    throw invalidRequest('You must pass days_until_due when collection_method is send_invoice.', {
      code: 'parameter_missing',
      param: 'days_until_due',
    });
  if (typeof given.trial_end === 'number' && given.trial_end <= now)
    throw invalidRequest('Invalid timestamp: must be a time in the future', { param: 'trial_end' });
  const days = given.trial_period_days ?? 0;
  const trialEnd = typeof given.trial_end === 'number' ? given.trial_end : days > 0 ? now + days * DAY : null;
  const subscription = startSubscription(world, {
    customer: customer.id,
    items,
    once: [],
    trialEnd,
    billingCycleAnchor: given.billing_cycle_anchor ?? null,
    prorate: given.proration_behavior !== 'none',
    paymentBehavior: playedBehavior(given.payment_behavior),
    offSession: given.off_session ?? false,
    paidBy: null,
    fields: keptFields(world, customer.id, given, null),
  });
  if (given.cancel_at_period_end !== true && (given.cancel_at === undefined || given.cancel_at === null))
    return subscription;
  const ends = cancelAtTime(given.cancel_at ?? 'min_period_end', subscription.items.data);
  const ending = world.change('subscription', subscription.id, {
    cancel_at: ends,
    cancel_at_period_end: given.cancel_at_period_end === true,
    canceled_at: now,
  });
  arm(world, ending);
  return ending;
}

function update(world: World, id: string, given: z.output<typeof subscriptionUpdate>): Stripe.Subscription {
  const before = world.get('subscription', id);
  const customer = idOf(before.customer) ?? '';
  if (isOver(before)) return updateEnded(world, before, given);
  const schedule = scheduleOf(world, before);
  if (schedule && (given.cancel_at !== undefined || given.cancel_at_period_end !== undefined))
    throw invalidRequest(
      `The subscription is managed by the subscription schedule \`${schedule.id}\`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead.`,
    );
  return changeSubscription(world, id, {
    ...NO_CHANGE,
    items: (given.items ?? []).map((item, at) => itemChange(world, before, item, `items[${at}]`)),
    prorationBehavior: given.proration_behavior ?? 'create_prorations',
    prorationDate: given.proration_date ?? null,
    anchorNow: given.billing_cycle_anchor === 'now',
    trialEnd: given.trial_end,
    paymentBehavior: playedBehavior(given.payment_behavior),
    offSession: given.off_session ?? false,
    fields: keptFields(world, customer, given, before),
  });
}

/** Of an ended subscription only the words about it can change. */
function updateEnded(
  world: World,
  before: Stripe.Subscription,
  given: z.output<typeof subscriptionUpdate>,
): Stripe.Subscription {
  const { metadata, cancellation_details: _, ...others } = given;
  if (Object.values(others).some((value) => value !== undefined))
    throw invalidRequest('A canceled subscription can only update its cancellation_details and metadata.');
  return world.change(
    'subscription',
    before.id,
    { metadata: mergeMetadata(before.metadata, metadata) },
    'customer.subscription.updated',
  );
}

function hasStatus(
  subscription: Stripe.Subscription,
  wanted: (typeof STATUSES)[number] | undefined,
): boolean {
  if (wanted === undefined) return subscription.status !== 'canceled';
  if (wanted === 'all') return true;
  return wanted === 'ended' ? isOver(subscription) : subscription.status === wanted;
}

function within(at: number, range: Stripe.RangeQueryParam | undefined): boolean {
  return (
    (range?.gt === undefined || at > range.gt) &&
    (range?.gte === undefined || at >= range.gte) &&
    (range?.lt === undefined || at < range.lt) &&
    (range?.lte === undefined || at <= range.lte)
  );
}

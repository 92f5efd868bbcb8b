import type Stripe from 'stripe';
import type { z } from 'zod';
import { clockOfCustomer, idOf, livingCustomer } from '../billing/customers.ts';
import { boundary, type Recurrence } from '../billing/periods.ts';
import { recurrenceOf } from '../billing/prices.ts';
import { cancelSchedule, releaseSchedule } from '../billing/schedule-ends.ts';
import { type NewPhase, phaseObject } from '../billing/schedule-object.ts';
import { changeSchedule, createSchedule, scheduleFrom } from '../billing/schedules.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  currency,
  emptyable,
  intBetween,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  text,
  timestamp,
  timestampOrNow,
} from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { newItemParams, prorationBehavior, unsupported, wantedItems } from './billing-params.ts';

const phase = params({
  currency: currency.optional(),
  description: emptyable(text).optional(),
  duration: params({
    interval: oneOf('day', 'week', 'month', 'year'),
    interval_count: intBetween(1, 1095).optional(),
  }).optional(),
  end_date: timestamp.optional(),
  items: arrayOf(newItemParams),
  metadata: metadata.optional(),
  proration_behavior: prorationBehavior.optional(),
  start_date: timestampOrNow.optional(),
  trial_end: timestamp.optional(),
  ...unsupported(
    'add_invoice_items',
    'application_fee_percent',
    'automatic_tax',
    'billing_cycle_anchor',
    'billing_thresholds',
    'collection_method',
    'default_payment_method',
    'default_tax_rates',
    'discounts',
    'invoice_settings',
    'on_behalf_of',
    'transfer_data',
    'trial',
  ),
});

const endBehavior = oneOf('release', 'cancel').optional();

const newSchedule = params({
  customer: text.optional(),
  end_behavior: endBehavior,
  from_subscription: text.optional(),
  metadata: metadata.optional(),
  phases: arrayOf(phase).optional(),
  start_date: timestampOrNow.optional(),
  ...unsupported('billing_mode', 'customer_account', 'default_settings', 'pause_schedules'),
});

const scheduleUpdate = params({
  end_behavior: endBehavior,
  metadata: metadata.optional(),
  phases: arrayOf(phase).optional(),
  ...unsupported('default_settings', 'pause_schedules', 'proration_behavior'),
});

/** Subscription schedules: phases one after another, released or canceled at the end. */
export const subscriptionScheduleRoutes: Route[] = [
  route('POST', '/v1/subscription_schedules', newSchedule, (world, given) => create(world, given)),
  route('GET', '/v1/subscription_schedules/:id', params({}), (world, _given, id) =>
    world.get('subscription_schedule', id, 'schedule'),
  ),
  route('POST', '/v1/subscription_schedules/:id', scheduleUpdate, (world, given, id) => {
    const before = world.get('subscription_schedule', id, 'schedule');
    const start = before.phases[0]?.start_date ?? world.now(idOf(before.test_clock));
    const phases = given.phases ? phasesFrom(world, given.phases, start, before).map(phaseObject) : undefined;
    const now = before.current_phase?.start_date;
    if (phases && now !== undefined && !phases.some((one) => one.start_date === now))
      throw invalidRequest(
        'You can not modify a phase that has already started: pass the current phase with its start_date.',
        {
          param: 'phases',
        },
      );
    return changeSchedule(world, id, {
      ...(phases ? { phases } : {}),
      ...(given.end_behavior === undefined ? {} : { end_behavior: given.end_behavior }),
      ...(given.metadata === undefined
        ? {}
        : { metadata: mergeMetadata(before.metadata ?? {}, given.metadata) }),
    });
  }),
  route(
    'POST',
    '/v1/subscription_schedules/:id/release',
    params({ preserve_cancel_date: bool.optional() }),
    (world, _given, id) => releaseSchedule(world, id),
  ),
  route(
    'POST',
    '/v1/subscription_schedules/:id/cancel',
    params({ ...unsupported('invoice_now', 'prorate') }),
    (world, _given, id) => cancelSchedule(world, id),
  ),
  listRoute(
    'subscription_schedule',
    '/v1/subscription_schedules',
    {
      customer: text.optional(),
      scheduled: bool.optional(),
      ...unsupported('canceled_at', 'completed_at', 'released_at', 'customer_account'),
    },
    (schedule, given) =>
      (given.customer === undefined || schedule.customer === given.customer) &&
      (given.scheduled === undefined || (schedule.status === 'not_started') === given.scheduled),
  ),
];

function create(world: World, given: z.output<typeof newSchedule>): Stripe.SubscriptionSchedule {
  if (given.from_subscription !== undefined) {
    if (given.phases !== undefined || given.customer !== undefined)
      throw invalidRequest('You cannot set other parameters together with `from_subscription`.', {
        param: 'from_subscription',
      });
    return scheduleFrom(world, world.get('subscription', given.from_subscription, 'from_subscription'));
  }
  if (given.customer === undefined)
    throw invalidRequest('Missing required param: customer.', {
      code: 'parameter_missing',
      param: 'customer',
    });
  if (given.phases === undefined || given.phases.length === 0)
    throw invalidRequest('Missing required param: phases.', { code: 'parameter_missing', param: 'phases' });
  const customer = livingCustomer(world, given.customer).id;
  const now = world.now(clockOfCustomer(world, customer));
  const start = typeof given.start_date === 'number' ? given.start_date : now;
  return createSchedule(world, {
    customer,
    phases: phasesFrom(world, given.phases, start, null),
    endBehavior: given.end_behavior ?? 'release',
    metadata: mergeMetadata({}, given.metadata),
  });
}

function phasesFrom(
  world: World,
  given: readonly z.output<typeof phase>[],
  start: number,
  before: Stripe.SubscriptionSchedule | null,
): readonly NewPhase[] {
  let next = start;
  return given.map((one, at): NewPhase => {
    const items = wantedItems(world, one.items, `phases[${at}][items]`);
    const begins = typeof one.start_date === 'number' ? one.start_date : next;
    if (at > 0 && begins !== next)
      throw invalidRequest('Each phase must start when the one before it ends.', {
        param: `phases[${at}][start_date]`,
      });
    const ends = one.end_date ?? endOf(begins, one.duration, items[0]?.price);
    if (ends <= begins)
      throw invalidRequest('A phase must end after it starts.', { param: `phases[${at}][end_date]` });
    next = ends;
    const known = before?.phases.find((was) => was.start_date === begins);
    return {
      items: items.map((item) => ({
        price: item.price.id,
        quantity: item.quantity,
        metadata: item.metadata,
      })),
      start: begins,
      end: ends,
      currency: one.currency ?? items[0]?.price.currency ?? 'usd',
      prorationBehavior: one.proration_behavior ?? 'create_prorations',
      metadata: mergeMetadata(known?.metadata ?? {}, one.metadata),
      description: one.description ?? known?.description ?? null,
      trialEnd: one.trial_end ?? known?.trial_end ?? null,
    };
  });
}

/** A phase without an end lasts as long as it says, or one period of its price. */
function endOf(
  start: number,
  duration:
    | { readonly interval: Recurrence['interval']; readonly interval_count?: number | undefined }
    | undefined,
  price: Stripe.Price | undefined,
): number {
  if (duration)
    return boundary(start, { interval: duration.interval, count: duration.interval_count ?? 1 }, 1);
  return price ? boundary(start, recurrenceOf(price), 1) : start;
}

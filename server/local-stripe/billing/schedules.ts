import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { clockOfCustomer, idOf } from './customers.ts';
import { mustRun } from './schedule-ends.ts';
import { type NewPhase, phaseObject, scheduleObject } from './schedule-object.ts';
import { beginPhase, wakeAtPhaseEnd } from './schedule-phases.ts';
import { scheduleOf } from './schedule-state.ts';
import { periodEnd, periodStart } from './subscription-object.ts';

/** Puts a running subscription under a schedule whose one phase is its present period. */
export function scheduleFrom(world: World, subscription: Stripe.Subscription): Stripe.SubscriptionSchedule {
  if (idOf(subscription.schedule) !== null)
    throw invalidRequest('You cannot migrate a subscription that is already attached to a schedule.', {
      param: 'from_subscription',
    });
  const phase = phaseObject({
    items: subscription.items.data.map((item) => ({
      price: item.price.id,
      quantity: item.quantity ?? 1,
      metadata: item.metadata,
    })),
    start: periodStart(subscription),
    end: periodEnd(subscription),
    currency: subscription.currency,
    prorationBehavior: 'create_prorations',
    metadata: {},
    description: null,
    trialEnd: subscription.status === 'trialing' ? subscription.trial_end : null,
  });
  const schedule = scheduleObject({
    id: world.newId('subscription_schedule'),
    created: world.now(idOf(subscription.test_clock)),
    current_phase: { start_date: phase.start_date, end_date: phase.end_date },
    customer: subscription.customer,
    end_behavior: 'release',
    metadata: {},
    phases: [phase],
    status: 'active',
    subscription: subscription.id,
    test_clock: subscription.test_clock,
  });
  world.add('subscription_schedule', schedule, 'subscription_schedule.created');
  world.change('subscription', subscription.id, { schedule: schedule.id }, 'customer.subscription.updated');
  wakeAtPhaseEnd(world, schedule);
  return schedule;
}

/** Creates a schedule of phases for a customer; it starts its subscription when its first phase begins. */
export function createSchedule(
  world: World,
  given: {
    readonly customer: string;
    readonly phases: readonly NewPhase[];
    readonly endBehavior: 'release' | 'cancel';
    readonly metadata: Stripe.Metadata;
  },
): Stripe.SubscriptionSchedule {
  const clock = clockOfCustomer(world, given.customer);
  const schedule = scheduleObject({
    id: world.newId('subscription_schedule'),
    created: world.now(clock),
    current_phase: null,
    customer: given.customer,
    end_behavior: given.endBehavior,
    metadata: given.metadata,
    phases: given.phases.map(phaseObject),
    status: 'not_started',
    subscription: null,
    test_clock: clock,
  });
  world.add('subscription_schedule', schedule, 'subscription_schedule.created');
  const start = schedule.phases[0]?.start_date ?? schedule.created;
  if (start <= world.now(clock)) beginPhase(world, schedule.id, world.now(clock));
  else world.wake('schedule.phase', schedule.id, start, clock);
  return world.get('subscription_schedule', schedule.id);
}

/** Replaces the phases (or the end) of a schedule that is not over. */
export function changeSchedule(
  world: World,
  id: string,
  fields: Partial<Pick<Stripe.SubscriptionSchedule, 'phases' | 'end_behavior' | 'metadata'>>,
): Stripe.SubscriptionSchedule {
  const schedule = world.get('subscription_schedule', id);
  mustRun(schedule, 'update');
  const running = fields.phases?.find(({ start_date }) => start_date === schedule.current_phase?.start_date);
  const changed = world.change(
    'subscription_schedule',
    id,
    {
      ...fields,
      ...(running ? { current_phase: { start_date: running.start_date, end_date: running.end_date } } : {}),
    },
    'subscription_schedule.updated',
  );
  wakeAtPhaseEnd(world, changed);
  return changed;
}

/** Books another price for the end of the present period, as the portal does with a downgrade. */
export function scheduleAtPeriodEnd(
  world: World,
  subscription: Stripe.Subscription,
  items: NewPhase['items'],
  end: number,
): Stripe.SubscriptionSchedule {
  const schedule = scheduleOf(world, subscription) ?? scheduleFrom(world, subscription);
  const current = schedule.phases.find(({ start_date }) => start_date === schedule.current_phase?.start_date);
  const next = phaseObject({
    items,
    start: periodEnd(subscription),
    end,
    currency: subscription.currency,
    prorationBehavior: 'none',
    metadata: {},
    description: null,
    trialEnd: null,
  });
  return changeSchedule(world, schedule.id, { phases: current ? [current, next] : [next] });
}

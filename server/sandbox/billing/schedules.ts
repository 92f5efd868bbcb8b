import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { endSubscription } from './cancel.ts';
import { changeSubscription, NO_CHANGE } from './change.ts';
import { customerPaymentMethod } from './collect.ts';
import { clockOfCustomer, idOf } from './customers.ts';
import type { ItemChange } from './plan-change.ts';
import { type NewPhase, phaseObject, scheduleObject } from './schedule-object.ts';
import { scheduleOf } from './schedule-state.ts';
import { startSubscription } from './start.ts';
import { periodEnd, periodStart } from './subscription-object.ts';
import { arm } from './timers.ts';
import { PRORATIONS, wordOf } from './words.ts';

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

/** Lets the subscription go on by itself as it is. */
export function releaseSchedule(world: World, id: string): Stripe.SubscriptionSchedule {
  const schedule = world.get('subscription_schedule', id);
  mustRun(schedule, 'release');
  world.forget('schedule.phase', id);
  const subscription = idOf(schedule.subscription);
  const released = world.change('subscription_schedule', id, {
    status: 'released',
    released_at: world.now(idOf(schedule.test_clock)),
    released_subscription: subscription,
    subscription: null,
    current_phase: null,
  });
  if (subscription !== null)
    world.change('subscription', subscription, { schedule: null }, 'customer.subscription.updated');
  world.emit('subscription_schedule.released', released);
  return released;
}

/** Ends a schedule together with its subscription. */
export function cancelSchedule(world: World, id: string): Stripe.SubscriptionSchedule {
  const schedule = world.get('subscription_schedule', id);
  mustRun(schedule, 'cancel');
  const subscription = idOf(schedule.subscription);
  if (subscription !== null) {
    endSubscription(world, subscription, { reason: 'cancellation_requested' });
    return world.get('subscription_schedule', id);
  }
  world.forget('schedule.phase', id);
  const canceled = world.change('subscription_schedule', id, {
    status: 'canceled',
    canceled_at: world.now(idOf(schedule.test_clock)),
  });
  world.emit('subscription_schedule.canceled', canceled);
  return canceled;
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

/** What a schedule makes of its subscription's items at a moment; null where nothing new begins. */
function phaseBeginningAt(
  schedule: Stripe.SubscriptionSchedule,
  at: number,
): Stripe.SubscriptionSchedule.Phase | null {
  const begun = schedule.current_phase?.start_date ?? 0;
  return schedule.phases.findLast((phase) => phase.start_date <= at && phase.start_date > begun) ?? null;
}

/** Marks a phase as begun, after its items took effect. */
function enterPhase(world: World, id: string, phase: Stripe.SubscriptionSchedule.Phase): void {
  const schedule = world.change(
    'subscription_schedule',
    id,
    { status: 'active', current_phase: { start_date: phase.start_date, end_date: phase.end_date } },
    'subscription_schedule.updated',
  );
  wakeAtPhaseEnd(world, schedule);
}

/** The next phase begins, or the schedule ends as its `end_behavior` says. */
export function beginPhase(world: World, id: string, at: number): void {
  const schedule = world.get('subscription_schedule', id);
  if (schedule.status !== 'active' && schedule.status !== 'not_started') return;
  const phase = phaseBeginningAt(schedule, at);
  const subscription = idOf(schedule.subscription);
  if (phase === null) {
    finishSchedule(world, schedule, at);
    return;
  }
  if (subscription === null) startScheduled(world, schedule, phase);
  else applyPhase(world, world.get('subscription', subscription), phase);
  enterPhase(world, id, phase);
}

/** The items of a phase as changes to a subscription's items. */
function itemChanges(
  world: World,
  subscription: Stripe.Subscription,
  phase: Stripe.SubscriptionSchedule.Phase,
): readonly ItemChange[] {
  const existing = subscription.items.data;
  const kept = phase.items.map(
    (wanted, at): ItemChange => ({
      id: existing[at]?.id ?? null,
      price: world.get('price', idOf(wanted.price) ?? ''),
      quantity: wanted.quantity ?? 1,
      metadata: wanted.metadata ?? {},
      deleted: false,
    }),
  );
  const dropped = existing
    .slice(phase.items.length)
    .map((item): ItemChange => ({ id: item.id, price: null, quantity: null, metadata: null, deleted: true }));
  return [...kept, ...dropped];
}

function applyPhase(
  world: World,
  subscription: Stripe.Subscription,
  phase: Stripe.SubscriptionSchedule.Phase,
): void {
  changeSubscription(world, subscription.id, {
    ...NO_CHANGE,
    items: itemChanges(world, subscription, phase),
    prorationBehavior: wordOf(PRORATIONS, phase.proration_behavior) ?? 'create_prorations',
    offSession: true,
    fields: { metadata: { ...subscription.metadata, ...phase.metadata } },
  });
}

function startScheduled(
  world: World,
  schedule: Stripe.SubscriptionSchedule,
  phase: Stripe.SubscriptionSchedule.Phase,
): void {
  const customer = idOf(schedule.customer);
  if (customer === null) return;
  const pays = customerPaymentMethod(world, customer) !== null || phase.trial_end !== null;
  const subscription = startSubscription(world, {
    customer,
    items: phase.items.map((item) => ({
      price: world.get('price', idOf(item.price) ?? ''),
      quantity: item.quantity ?? 1,
      metadata: item.metadata ?? {},
    })),
    once: [],
    trialEnd: phase.trial_end,
    billingCycleAnchor: null,
    prorate: true,
    paymentBehavior: pays ? 'allow_incomplete' : 'default_incomplete',
    offSession: true,
    paidBy: null,
    fields: { metadata: phase.metadata ?? {}, description: phase.description, schedule: schedule.id },
  });
  world.change('subscription_schedule', schedule.id, { subscription: subscription.id });
}

function finishSchedule(world: World, schedule: Stripe.SubscriptionSchedule, at: number): void {
  const last = schedule.phases.at(-1);
  if (!last || last.end_date > at) {
    wakeAtPhaseEnd(world, schedule);
    return;
  }
  if (schedule.end_behavior !== 'cancel') {
    releaseSchedule(world, schedule.id);
    return;
  }
  const subscription = idOf(schedule.subscription);
  const completed = world.change('subscription_schedule', schedule.id, {
    status: 'completed',
    completed_at: at,
    current_phase: null,
  });
  world.emit('subscription_schedule.completed', completed);
  if (subscription !== null) endSubscription(world, subscription, { reason: 'cancellation_requested' });
}

function wakeAtPhaseEnd(world: World, schedule: Stripe.SubscriptionSchedule): void {
  const clock = idOf(schedule.test_clock);
  const end = schedule.current_phase?.end_date ?? schedule.phases[0]?.start_date;
  if (end !== undefined) world.wake('schedule.phase', schedule.id, Math.max(end, world.now(clock)), clock);
  const subscription = idOf(schedule.subscription);
  // The cycle's own alarm must ring after the phase has been looked at where both fall on one second.
  if (subscription !== null) arm(world, world.get('subscription', subscription));
}

function mustRun(schedule: Stripe.SubscriptionSchedule, action: string): void {
  if (schedule.status !== 'active' && schedule.status !== 'not_started')
    throw invalidRequest(
      `You cannot ${action} a subscription schedule that is currently in the \`${schedule.status}\` status.`,
    );
}

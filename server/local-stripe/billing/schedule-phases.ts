import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { endSubscription } from './cancel.ts';
import { changeSubscription, NO_CHANGE } from './change.ts';
import { customerPaymentMethod } from './collect.ts';
import { idOf } from './customers.ts';
import type { ItemChange } from './item-changes.ts';
import { releaseSchedule } from './schedule-ends.ts';
import { startSubscription } from './start.ts';
import { arm } from './timers.ts';
import { PRORATIONS, wordOf } from './words.ts';

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
export function itemChanges(
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

/** Wakes the schedule when its present phase ends. */
export function wakeAtPhaseEnd(world: World, schedule: Stripe.SubscriptionSchedule): void {
  const clock = idOf(schedule.test_clock);
  const end = schedule.current_phase?.end_date ?? schedule.phases[0]?.start_date;
  if (end !== undefined) world.wake('schedule.phase', schedule.id, Math.max(end, world.now(clock)), clock);
  const subscription = idOf(schedule.subscription);
  // The cycle's own alarm must ring after the phase has been looked at where both fall on one second.
  if (subscription !== null) arm(world, world.get('subscription', subscription));
}

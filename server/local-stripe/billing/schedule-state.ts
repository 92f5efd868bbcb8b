import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';

/** The schedule that governs a subscription, or null. */
export function scheduleOf(
  world: World,
  subscription: Stripe.Subscription,
): Stripe.SubscriptionSchedule | null {
  const id = idOf(subscription.schedule);
  return id === null ? null : (world.find('subscription_schedule', id) ?? null);
}

/** A subscription that has ended takes its schedule with it; tells `subscription_schedule.canceled`. */
export function cancelScheduleOf(world: World, subscription: Stripe.Subscription, now: number): void {
  const schedule = scheduleOf(world, subscription);
  if (schedule === null || (schedule.status !== 'active' && schedule.status !== 'not_started')) return;
  world.forget('schedule.phase', schedule.id);
  const canceled = world.change('subscription_schedule', schedule.id, {
    status: 'canceled',
    canceled_at: now,
    current_phase: null,
  });
  world.emit('subscription_schedule.canceled', canceled);
}

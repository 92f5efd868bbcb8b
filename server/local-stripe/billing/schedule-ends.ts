import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { endSubscription } from './cancel.ts';
import { idOf } from './customers.ts';

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

/** Throws Stripe's refusal for a schedule that is over. */
export function mustRun(schedule: Stripe.SubscriptionSchedule, action: string): void {
  if (schedule.status !== 'active' && schedule.status !== 'not_started')
    throw invalidRequest(
      `You cannot ${action} a subscription schedule that is currently in the \`${schedule.status}\` status.`,
    );
}

import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';
import { isOver, periodEnd } from './subscription-object.ts';

const DAY = 86_400;
const TOPICS = [
  'subscription.cycle',
  'subscription.cancel',
  'subscription.trial_will_end',
  'subscription.upcoming',
  'subscription.incomplete_expiry',
  'subscription.resume_collection',
] as const;

/** Sets every wake-up of a subscription from its present state. Call it after each change of state or period. */
export function arm(world: World, subscription: Stripe.Subscription): void {
  const { id, status, cancel_at: cancelAt, trial_end: trialEnd } = subscription;
  const clock = idOf(subscription.test_clock);
  const now = world.now(clock);
  const wake = (topic: (typeof TOPICS)[number], at: number | null): void => {
    const known = world.store.get('wake_up', `${topic} ${id}`) !== undefined;
    if (at !== null) world.wake(topic, id, at, clock);
    else if (known) world.forget(topic, id);
  };
  const runs = status === 'active' || status === 'trialing' || status === 'past_due' || status === 'unpaid';
  const end = periodEnd(subscription);
  const ends = cancelAt !== null && cancelAt <= end;
  const later = (at: number): number | null => (at > now ? at : null);
  wake('subscription.cycle', runs ? Math.max(now, end) : null);
  wake('subscription.cancel', cancelAt !== null && !isOver(subscription) ? Math.max(now, cancelAt) : null);
  wake('subscription.trial_will_end', status === 'trialing' && trialEnd ? later(trialEnd - 3 * DAY) : null);
  wake('subscription.upcoming', runs && status !== 'unpaid' && !ends ? later(end - 7 * DAY) : null);
  wake('subscription.incomplete_expiry', status === 'incomplete' ? subscription.created + 23 * 3600 : null);
  const resumesAt = subscription.pause_collection?.resumes_at ?? null;
  wake('subscription.resume_collection', runs && resumesAt !== null ? Math.max(now, resumesAt) : null);
}

/** Drops every wake-up of a subscription that has ended. */
export function disarm(world: World, subscription: string): void {
  for (const topic of TOPICS) world.forget(topic, subscription);
}

import type Stripe from 'stripe';
import type { SubscriptionRow } from './project.ts';

/** Why a subscription is paused: Stripe's own word where it says one. */
export type Pause = {
  reason: 'trial_ended' | 'requested' | 'payment_failed' | 'unknown';
  since: Date | null;
};

/**
 * Why and since when a subscription has the status `paused`. Where Stripe does not say, only a trial can be told
 * by the rest: one that was to pause without a payment method, and after which no period has begun. What else it
 * may be is not guessed.
 */
export function pauseOf(row: SubscriptionRow, subscription: Stripe.Subscription | null): Pause {
  const told = subscription?.status_details?.paused;
  if (told) {
    const since = new Date(told.transitioned_at * 1000);
    return { reason: REASONS[told.subscription.type] ?? 'unknown', since };
  }
  const { trial_end: trialEnd = null, trial_settings: settings = null } = subscription ?? {};
  const pausesThen = settings?.end_behavior.missing_payment_method === 'pause';
  const none = trialEnd === null || trialEnd * 1000 <= row.currentPeriodStart.getTime();
  if (!pausesThen || none) return { reason: 'unknown', since: null };
  return { reason: 'trial_ended', since: new Date(trialEnd * 1000) };
}

const REASONS: Readonly<Record<string, Pause['reason']>> = {
  trial_end_without_payment_method: 'trial_ended',
  pause_requested: 'requested',
  first_payment_failure: 'payment_failed',
  final_payment_failure: 'payment_failed',
};

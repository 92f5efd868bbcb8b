import type Stripe from 'stripe';
import type { Next } from '../../../notify/templates.ts';
import type { SubscriptionRow } from './project.ts';

/**
 * What comes next by itself, if nobody does anything: all that may be promised about a subscription. Null where
 * nothing may be: a payment is open, it is on hold, or payments are not collected at the time.
 */
export function nextOf(row: SubscriptionRow, subscription: Stripe.Subscription | null): Next {
  if (!subscription || subscription.status !== row.status) return null;
  const turnsAt = turnOf(row, subscription);
  const first = Math.min(
    ...[row.endsAt, row.pending?.changesAt, turnsAt].flatMap((at) => at?.getTime() ?? []),
  );
  if (row.endsAt?.getTime() === first) return { kind: 'ends', at: row.endsAt };
  if (row.status !== 'active' && row.status !== 'trialing') return null;
  if (row.pending?.changesAt.getTime() === first) {
    const { tier, billingPeriod, changesAt: at } = row.pending;
    return { kind: 'changes', at, to: { tier, billingPeriod } };
  }
  if (isUncollected(subscription, turnsAt)) return null;
  if (row.status === 'active') return { kind: 'renews', at: turnsAt };
  const missing = subscription.trial_settings?.end_behavior.missing_payment_method;
  // Whether there is one is not known here, so it is said what depends on it.
  if (missing === 'pause' || missing === 'cancel')
    return { kind: 'bills_if_it_can', at: turnsAt, otherwise: missing === 'pause' ? 'paused' : 'ended' };
  return { kind: 'bills', at: turnsAt };
}

/** When the present period or the trial is over. */
function turnOf({ status, currentPeriodEnd }: SubscriptionRow, { trial_end }: Stripe.Subscription): Date {
  return status === 'trialing' && trial_end ? new Date(trial_end * 1000) : currentPeriodEnd;
}

/** Whether collection is paused (`pause_collection`; the status stays as it is) and still is at that moment. */
function isUncollected({ pause_collection: pause }: Stripe.Subscription, at: Date): boolean {
  if (!pause) return false;
  return pause.resumes_at === null || pause.resumes_at * 1000 > at.getTime();
}

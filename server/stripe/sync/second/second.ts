import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import type { Alarm } from '../../deps.ts';
import type { Ours } from '../ours.ts';
import type { Alert, Projection } from '../subscription/project.ts';
import { endedBefore, endSurplus, type Surplus } from './surplus.ts';

type Context = { stripe: StripeCalls; account: Ours['account']; alarms: Alarm[] };

type Seen = {
  readonly subscriptions: readonly Stripe.Subscription[];
  /** Second ones that we ended, and Stripe does not list any more. */
  readonly unlisted: readonly Surplus[];
  readonly projection: Projection;
};

/**
 * Ends second subscriptions, and returns them with those we ended before, and what is left to a person because
 * Stripe refuses to end it. It comes before anything is written: they are marked at Stripe, so a crash loses no
 * trace of them.
 */
export async function endSecond(
  { stripe, account, alarms }: Context,
  { subscriptions, unlisted, projection: { row, duplicates } }: Seen,
): Promise<{ surplus: readonly Surplus[]; left: readonly Alert[] }> {
  const before = [...endedBefore(subscriptions), ...unlisted];
  if (!account.stripeCustomerId || row === null || duplicates.length === 0)
    return { surplus: before, left: [] };
  const bestFirst = [row.stripeSubscriptionId, ...duplicates];
  const { ended, refused } = await endSurplus(
    stripe,
    account.stripeCustomerId,
    bestFirst.flatMap((wanted) => subscriptions.find(({ id }) => id === wanted) ?? []),
  );
  for (const { subscription } of ended) {
    const details = { stripe_subscription_id: subscription.id };
    alarms.push({ kind: 'duplicate_subscription', details });
  }
  const left = refused.map(({ subscription: { id }, beside }): Alert => {
    const pair = { stripeSubscriptionId: id, beside: beside.id };
    return { kind: 'duplicate_left', ...pair, because: 'cancel_refused', of: id };
  });
  return { surplus: [...before, ...ended], left };
}

import { isDeepStrictEqual } from 'node:util';
import type Stripe from 'stripe';
import { beginningOf } from './cost.ts';
import type { StripeCalls } from './gateway.ts';
import { standingOf } from './several.ts';

/** Written onto what we cancel, so that a crash before our commit leaves a trace to go on from. */
const MARK = 'Cancelled by Driftstack Billing: the account already had a subscription.';
/** What follows names the one beside it. An earlier version wrote the mark alone. */
const BESIDE = ' Beside ';

/** A second subscription that we have ended, and the better one that was there at the same time. */
export type Surplus = {
  readonly subscription: Stripe.Subscription;
  /** Null where it cannot be told for certain. */
  readonly beside: Stripe.Subscription | null;
};

/**
 * Whether we have cancelled this subscription because it was a second one. Customers can leave a comment of their
 * own where a portal asks for the reason, but none without choosing one.
 */
export function isMarked({ cancellation_details: details }: Stripe.Subscription): boolean {
  if (!details || details.feedback) return false;
  return details.comment === MARK || (details.comment?.startsWith(MARK + BESIDE) ?? false);
}

/** What we have ended so far, read off its marks: any crash since leads to the same. */
export function endedBefore(subscriptions: readonly Stripe.Subscription[]): Surplus[] {
  return subscriptions.filter(isMarked).map((subscription) => ({
    subscription,
    beside: besideOf(subscription, subscriptions),
  }));
}

function besideOf(
  { id, ended_at: endedAt, cancellation_details: details }: Stripe.Subscription,
  subscriptions: readonly Stripe.Subscription[],
): Stripe.Subscription | null {
  const named = details?.comment?.slice((MARK + BESIDE).length);
  const then = subscriptions.filter(
    (other) =>
      other.id !== id &&
      other.status !== 'incomplete_expired' &&
      (!endedAt || (other.created <= endedAt && !(other.ended_at && other.ended_at < endedAt))),
  );
  if (named) return then.find((other) => other.id === named) ?? null;
  return then.length === 1 ? (then[0] ?? null) : null;
}

/**
 * Ends all of these but the first at once, for good, and returns what was ended: a marked one counts for nothing
 * any more. None where one of them is otherwise by now: that change has an event of its own, which leads here
 * again. The worst goes first, so that each is marked with one that is still there, and the customer has paid
 * for the best alone at any time. What somebody else has ended meanwhile is left out: it is not marked, and its
 * money is for them to give back.
 */
export async function endSurplus(
  stripe: Pick<StripeCalls, 'cancelSubscription' | 'listSubscriptions'>,
  customer: string,
  bestFirst: readonly Stripe.Subscription[],
): Promise<Surplus[]> {
  const again = await stripe.listSubscriptions(customer);
  const areAsRead = bestFirst.every((read) => {
    const now = again.find(({ id }) => id === read.id);
    return now !== undefined && isDeepStrictEqual(standingOf(now), standingOf(read));
  });
  if (!areAsRead) return [];
  const ended: Surplus[] = [];
  for (const [index, subscription] of [...bestFirst.entries()].reverse()) {
    const beside = eldest(bestFirst.slice(0, index));
    if (beside === null) continue;
    const { id } = subscription;
    const key = `safety_cancel:${id}:${beside.id}`;
    const comment = `${MARK}${BESIDE}${beside.id}`;
    if (await stripe.cancelSubscription(id, comment, key)) ended.push({ subscription, beside });
  }
  return ended;
}

/** The one that has been there longest. */
function eldest(several: readonly Stripe.Subscription[]): Stripe.Subscription | null {
  return [...several].sort((a, b) => beginningOf(a) - beginningOf(b))[0] ?? null;
}

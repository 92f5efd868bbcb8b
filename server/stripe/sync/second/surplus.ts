import { isDeepStrictEqual } from 'node:util';
import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import { beginningOf } from './cost.ts';
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

/** One that Stripe does not end for us. */
type Refused = Surplus & { readonly beside: Stripe.Subscription };

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

/**
 * Of these subscriptions, which Stripe has told of and does not list, as those of a customer it has deleted, the
 * ones that we had ended, and what each was beside: what is owed for them is owed all the same.
 */
export async function readUnlisted(
  stripe: Pick<StripeCalls, 'readSubscription'>,
  ids: readonly string[],
): Promise<Surplus[]> {
  const found: Surplus[] = [];
  for (const id of new Set(ids)) {
    const subscription = await stripe.readSubscription(id);
    if (!subscription || !isMarked(subscription)) continue;
    const named = nameOfBeside(subscription);
    const other = named && (await stripe.readSubscription(named));
    found.push({ subscription, beside: other ? besideOf(subscription, [other]) : null });
  }
  return found;
}

const nameOfBeside = ({ cancellation_details: details }: Stripe.Subscription): string | undefined =>
  details?.comment?.slice((MARK + BESIDE).length);

function besideOf(
  subscription: Stripe.Subscription,
  subscriptions: readonly Stripe.Subscription[],
): Stripe.Subscription | null {
  const { id, ended_at: endedAt } = subscription;
  const named = nameOfBeside(subscription);
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
 * Ends all of these but the first at once, for good, and returns what was ended, and what Stripe refuses to end:
 * a marked one counts for nothing any more. None where one of them is otherwise by now: that change has an event of its own, which leads here
 * again. The worst goes first, so that each is marked with one that is still there, and the customer has paid
 * for the best alone at any time. What somebody else has ended meanwhile is left out: it is not marked, and its
 * money is for them to give back.
 */
export async function endSurplus(
  stripe: Pick<StripeCalls, 'cancelSubscription' | 'listSubscriptions'>,
  customer: string,
  bestFirst: readonly Stripe.Subscription[],
): Promise<{ ended: Surplus[]; refused: Refused[] }> {
  const again = await stripe.listSubscriptions(customer);
  const areAsRead = bestFirst.every((read) => {
    const now = again.find(({ id }) => id === read.id);
    return now !== undefined && isDeepStrictEqual(standingOf(now), standingOf(read));
  });
  const ended: Surplus[] = [];
  const refused: Refused[] = [];
  if (!areAsRead) return { ended, refused };
  for (const [index, subscription] of [...bestFirst.entries()].reverse()) {
    const beside = eldest(bestFirst.slice(0, index));
    if (beside === null) continue;
    const { id } = subscription;
    const key = `safety_cancel:${id}:${beside.id}`;
    const comment = `${MARK}${BESIDE}${beside.id}`;
    const canceled = await stripe.cancelSubscription(id, comment, key);
    if (canceled === 'canceled') ended.push({ subscription, beside });
    if (canceled === 'refused') refused.push({ subscription, beside });
  }
  return { ended, refused };
}

/** The one that has been there longest. */
function eldest(several: readonly Stripe.Subscription[]): Stripe.Subscription | null {
  return [...several].sort((a, b) => beginningOf(a) - beginningOf(b))[0] ?? null;
}

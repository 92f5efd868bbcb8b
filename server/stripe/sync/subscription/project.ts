import type Stripe from 'stripe';
import type { SubscriptionStatus } from '../../../../shared/billing.ts';
import { SUBSCRIPTION_STATUSES } from '../../../../shared/billing.ts';
import type { BillingPeriod, Tier } from '../../../../shared/catalog.ts';
import { type Restraint, type Rival, restraintOf } from '../second/several.ts';
import {
  bookedPlan,
  type PendingPlan,
  type PriceMap,
  type PriceMeaning,
  plannedEnd,
  tierRank,
} from './schedule.ts';

/** What our subscription row says about an account: a projection of what Stripe holds. */
export type SubscriptionRow = {
  stripeSubscriptionId: string;
  tier: Tier;
  /** The plan that a booked change leads to, and when. */
  pending: PendingPlan | null;
  status: SubscriptionStatus;
  billingPeriod: BillingPeriod;
  currentPeriodStart: Date;
  currentPeriodEnd: Date;
  /** When it will end without anybody doing anything more; null while it goes on, and once it is over. */
  endsAt: Date | null;
  /** When it ended, as Stripe says; null while it runs, and where Stripe does not say. */
  endedAt: Date | null;
  entitled: boolean;
};

export type Projection = {
  /** Null when Stripe holds nothing for this account that we could understand. */
  row: SubscriptionRow | null;
  /** The subscription that was the row until now, as it is now, where another has taken its place. */
  former: SubscriptionRow | null;
  /** Live subscriptions of our catalogue beside the chosen one, best first: each bills a second time, and is to be ended. */
  duplicates: readonly string[];
  /** What a person has to look at: what we do not know (what we knew before was kept), or must not decide. */
  alerts: readonly Alert[];
};
export type Alert =
  | { kind: 'unknown_price'; stripeSubscriptionId: string; priceIds: readonly string[] }
  | { kind: 'unknown_status'; stripeSubscriptionId: string; status: string }
  | {
      kind: 'duplicate_left';
      stripeSubscriptionId: string;
      /** The better one of the two. */
      beside: string;
      because: Restraint | 'cancel_refused';
      /** The one of which `because` is true. */
      of: string;
    };

const ENTITLED = {
  incomplete: false,
  incomplete_expired: false,
  trialing: true,
  active: true,
  // Grace: Stripe is still trying to collect, and moves it to unpaid or canceled when it gives up.
  past_due: true,
  unpaid: false,
  paused: false,
  canceled: false,
} satisfies Record<SubscriptionStatus, boolean>;

/** The order of choice between several subscriptions; those of equal rank are told apart by `compare`. */
const RANK = {
  active: 0,
  trialing: 0,
  past_due: 1,
  unpaid: 2,
  paused: 2,
  incomplete: 3,
  canceled: 4,
  incomplete_expired: 5,
} satisfies Record<SubscriptionStatus, number>;

const LAST_LIVE_RANK = 2;

/** Whether a subscription of this status bills, or will again once repaired: a second one would bill twice. */
export const isLive = (status: SubscriptionStatus): boolean => RANK[status] <= LAST_LIVE_RANK;

/**
 * The row that follows from what Stripe holds, whatever event led here and in whatever order. A price or a
 * status that we do not know keeps what `previous` says and raises an alert; it never moves anybody.
 */
export function project(
  subscriptions: readonly Stripe.Subscription[],
  prices: PriceMap,
  previous: SubscriptionRow | null,
): Projection {
  const alerts: Alert[] = [];
  const candidates = subscriptions
    .flatMap((subscription) => readSubscription(subscription, prices, previous, alerts) ?? [])
    .sort(compare);
  const [chosen, ...others] = candidates;
  if (!chosen) return { row: null, former: null, duplicates: [], alerts };
  const gone = others.find(({ subscription: { id } }) => id === previous?.stripeSubscriptionId);
  const held = { row: chosen.row, former: gone?.row ?? null };
  const second = others.filter(({ row, inCatalogue }) => inCatalogue && isLive(row.status));
  const restraint = second.length === 0 ? null : restraintOf([chosen, ...second]);
  const ids = second.map(({ subscription }) => subscription.id);
  if (restraint === null) return { ...held, duplicates: ids, alerts };
  const { because, stripeSubscriptionId: of } = restraint;
  const pair = { kind: 'duplicate_left', beside: chosen.subscription.id, because, of } as const;
  alerts.push(...ids.map((stripeSubscriptionId) => ({ ...pair, stripeSubscriptionId })));
  return { ...held, duplicates: [], alerts };
}

type Candidate = Rival & { row: SubscriptionRow };

function readSubscription(
  subscription: Stripe.Subscription,
  prices: PriceMap,
  previous: SubscriptionRow | null,
  alerts: Alert[],
): Candidate | null {
  const before = previous?.stripeSubscriptionId === subscription.id ? previous : null;
  const item = itemInCatalogue(subscription, prices);
  const meaning = item?.meaning ?? before;
  if (!item) {
    // Somebody else's subscription on the same customer is none of our business; one that we sold is.
    const ours = before !== null || subscription.metadata['driftstack_account_id'] !== undefined;
    if (ours) {
      const priceIds = subscription.items.data.map(({ price }) => price.id);
      alerts.push({ kind: 'unknown_price', stripeSubscriptionId: subscription.id, priceIds });
    }
  }
  const status = knownStatus(subscription.status);
  if (status === null) {
    alerts.push({
      kind: 'unknown_status',
      stripeSubscriptionId: subscription.id,
      status: subscription.status,
    });
  }
  const held = status ?? before?.status;
  const period = item?.item ?? latestPeriod(subscription) ?? periodOf(before);
  if (!meaning || !held || !period) return null;
  const endsAt = isLive(held) ? plannedEnd(subscription, period) : null;
  return {
    subscription,
    inCatalogue: item !== null,
    isUnderstood: status !== null,
    row: {
      stripeSubscriptionId: subscription.id,
      tier: meaning.tier,
      pending: isLive(held) ? bookedPlan(subscription, prices, { plan: meaning, endsAt }) : null,
      status: held,
      billingPeriod: meaning.billingPeriod,
      currentPeriodStart: fromUnix(period.current_period_start),
      currentPeriodEnd: fromUnix(period.current_period_end),
      endsAt,
      endedAt: !isLive(held) && subscription.ended_at ? fromUnix(subscription.ended_at) : null,
      entitled: status === null && before ? before.entitled : ENTITLED[held],
    },
  };
}

/** What a subscription is for, by the one of its prices that is in our catalogue. */
export function planOf(subscription: Stripe.Subscription, prices: PriceMap): PriceMeaning | null {
  return itemInCatalogue(subscription, prices)?.meaning ?? null;
}

const fromUnix = (seconds: number): Date => new Date(seconds * 1000);

function itemInCatalogue(subscription: Stripe.Subscription, prices: PriceMap) {
  const known = subscription.items.data.flatMap((item) => {
    const meaning = prices.get(item.price.id);
    return meaning ? [{ item, meaning }] : [];
  });
  return known.sort((a, b) => tierRank(b.meaning.tier) - tierRank(a.meaning.tier))[0] ?? null;
}

type Period = { current_period_start: number; current_period_end: number };

function latestPeriod(subscription: Stripe.Subscription): Period | undefined {
  return [...subscription.items.data].sort((a, b) => b.current_period_end - a.current_period_end)[0];
}

function periodOf(row: SubscriptionRow | null): Period | null {
  if (!row) return null;
  return {
    current_period_start: row.currentPeriodStart.getTime() / 1000,
    current_period_end: row.currentPeriodEnd.getTime() / 1000,
  };
}

function knownStatus(status: string): SubscriptionStatus | null {
  return SUBSCRIPTION_STATUSES.find((known) => known === status) ?? null;
}

/** Of those still running the higher tier wins, then the one that has lived longest; of those that ended the newest. */
function compare(a: Candidate, b: Candidate): number {
  const byRank = RANK[a.row.status] - RANK[b.row.status];
  const areLive = RANK[a.row.status] <= LAST_LIVE_RANK;
  const byTier = areLive ? tierRank(b.row.tier) - tierRank(a.row.tier) : 0;
  const byAge = a.subscription.created - b.subscription.created;
  return byRank || byTier || (areLive ? byAge : -byAge) || (a.subscription.id < b.subscription.id ? -1 : 1);
}

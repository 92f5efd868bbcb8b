import type Stripe from 'stripe';
import { type BillingPeriod, TIERS, type Tier } from '../../../../shared/catalog.ts';

export type PriceMeaning = { tier: Tier; billingPeriod: BillingPeriod };
/** What each price of our catalogue stands for, by Stripe's price id. */
export type PriceMap = ReadonlyMap<string, PriceMeaning>;

/** A change of plan that is booked: tier and period are one thing, since one phase brings them both. */
export type PendingPlan = PriceMeaning & { changesAt: Date };

type Phase = Stripe.SubscriptionSchedule.Phase;

/**
 * The moment at which it ends by itself, as Stripe holds it: set by the portal or by staff, by the older flag,
 * which means the earliest end of a period among its items, or by a schedule that ends it with its last phase.
 */
export function plannedEnd(
  subscription: Stripe.Subscription,
  period: { current_period_end: number },
): Date | null {
  const { cancel_at, cancel_at_period_end, items } = subscription;
  const ends = [period, ...items.data].map(({ current_period_end }) => current_period_end);
  const set = cancel_at ?? (cancel_at_period_end ? Math.min(...ends) : null);
  const moments = [set, endBySchedule(subscription)].filter((moment) => moment !== null);
  return moments.length === 0 ? null : new Date(Math.min(...moments) * 1000);
}

/**
 * The first phase to come that brings another plan than the present one. A phase of the same plan, with another
 * coupon say, is no change; one whose prices are not of our catalogue says nothing that we understand; one that
 * begins when all has ended never comes.
 */
export function bookedPlan(
  subscription: Stripe.Subscription,
  prices: PriceMap,
  { plan: present, endsAt }: { plan: PriceMeaning; endsAt: Date | null },
): PendingPlan | null {
  const schedule = runningSchedule(subscription);
  if (!schedule) return null;
  const { end_date: endOfCurrent } = schedule.current_phase;
  for (const phase of schedule.phases) {
    if (phase.start_date < endOfCurrent) continue;
    const plan = planOfPhase(phase, prices);
    if (!plan || isSamePlan(plan, present)) continue;
    const changesAt = new Date(phase.start_date * 1000);
    const { tier, billingPeriod } = plan;
    return endsAt === null || changesAt < endsAt ? { tier, billingPeriod, changesAt } : null;
  }
  return null;
}

/** When the schedule ends its subscription, in unix seconds; null where it lets it go on. */
export function endBySchedule(subscription: Stripe.Subscription): number | null {
  const schedule = runningSchedule(subscription);
  return schedule?.end_behavior === 'cancel' ? (schedule.phases.at(-1)?.end_date ?? null) : null;
}

/** When the phase began that brought the present plan in place of the one before; null where none did. */
export function phaseBegan(
  subscription: Stripe.Subscription,
  prices: PriceMap,
  { from, to }: { from: PriceMeaning; to: PriceMeaning },
): Date | null {
  const schedule = runningSchedule(subscription);
  if (!schedule) return null;
  const { start_date: began } = schedule.current_phase;
  const now = schedule.phases.find(({ start_date }) => start_date === began);
  const earlier = schedule.phases.find(({ end_date }) => end_date === began);
  const [before, after] = [earlier && planOfPhase(earlier, prices), now && planOfPhase(now, prices)];
  const brought = before && after && isSamePlan(before, from) && isSamePlan(after, to);
  return brought ? new Date(began * 1000) : null;
}

export const isSamePlan = (one: PriceMeaning, other: PriceMeaning): boolean =>
  one.tier === other.tier && one.billingPeriod === other.billingPeriod;

export const tierRank = (tier: Tier): number => TIERS.indexOf(tier);

/** A schedule that is released, canceled or over has no say any more. Its phases come in their order. */
function runningSchedule({ schedule }: Stripe.Subscription) {
  if (schedule === null || typeof schedule === 'string' || !schedule.current_phase) return null;
  const phases = schedule.phases.toSorted((a, b) => a.start_date - b.start_date);
  return { phases, current_phase: schedule.current_phase, end_behavior: schedule.end_behavior };
}

/** As with the items of a subscription: the highest tier of those in our catalogue. */
function planOfPhase(phase: Phase, prices: PriceMap): PriceMeaning | null {
  const plans = phase.items.flatMap(
    ({ price }) => prices.get(typeof price === 'string' ? price : price.id) ?? [],
  );
  return plans.sort((a, b) => tierRank(b.tier) - tierRank(a.tier))[0] ?? null;
}

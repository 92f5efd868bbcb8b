import type { BillingPeriod, Tier } from '../../../../shared/catalog.ts';
import { isLive, type SubscriptionRow } from './project.ts';
import { isSamePlan, type PendingPlan } from './schedule.ts';

/**
 * What became of a planned end. Each other moment is told anew. Reaching it is nothing of the kind: only of a
 * subscription that goes on a cancellation can be undone.
 */
export function cancellation(before: SubscriptionRow | null, after: SubscriptionRow) {
  const was = planned(before)?.endsAt ?? null;
  const is = after.endsAt;
  if (!isLive(after.status) || isSameMoment(was, is)) return null;
  return is === null ? ({ kind: 'undone' } as const) : ({ kind: 'scheduled', endsAt: is, was } as const);
}

type Booked<T> = { kind: 'scheduled'; to: T; changesAt: Date } | { kind: 'unscheduled'; to: T };

/** What became of a booked change as far as it is one of the tier, or one of the period. */
export function bookedChange(
  before: SubscriptionRow | null,
  after: SubscriptionRow,
  what: 'tier' | 'billingPeriod',
): Booked<Tier | BillingPeriod> | null {
  const [was, is] = [planned(before), after].map((row) => {
    const to = row?.pending?.[what];
    return row?.pending && to !== undefined && to !== row[what]
      ? { to, changesAt: row.pending.changesAt }
      : null;
  });
  if (!isLive(after.status)) return null;
  if (is) {
    const known = was?.to === is.to && isSameMoment(was.changesAt, is.changesAt);
    return known ? null : { kind: 'scheduled', ...is };
  }
  // One that has just taken effect was not taken back.
  return was && was.to !== after[what] ? { kind: 'unscheduled', to: was.to } : null;
}

/** The same of the booked change as a whole. */
export function bookedPlanChange(before: SubscriptionRow | null, after: SubscriptionRow) {
  const was = planned(before)?.pending ?? null;
  const is = after.pending;
  if (!isLive(after.status) || isSameBooking(was, is)) return null;
  if (is !== null)
    return { kind: 'scheduled', plan: is, replaced: was && !isSamePlan(was, after) ? was : null } as const;
  return was && !isSamePlan(was, after) ? ({ kind: 'unscheduled', plan: was } as const) : null;
}

/** What was planned for a subscription that has ended since is no plan any more. */
const planned = (row: SubscriptionRow | null) => (row && isLive(row.status) ? row : null);

function isSameBooking(one: PendingPlan | null, other: PendingPlan | null): boolean {
  if (one === null || other === null) return one === other;
  return isSamePlan(one, other) && isSameMoment(one.changesAt, other.changesAt);
}

const isSameMoment = (one: Date | null, other: Date | null): boolean => one?.getTime() === other?.getTime();

import type Stripe from 'stripe';
import type { AuditAction } from '../../../../shared/audit.ts';
import { formatId } from '../../../../shared/ids.ts';
import { toWireTime } from '../../../../shared/time.ts';
import { subscriptionNews } from '../../../webhooks/news.ts';
import type { Effect, Source } from '../effects.ts';
import { bookedChange, cancellation } from './comparison.ts';
import { mailsOfChange } from './mails.ts';
import { pauseOf } from './pause.ts';
import { isLive, type SubscriptionRow } from './project.ts';

/** No clock is in here: every moment that is told of a change is one that Stripe holds. */
export type RowChange = {
  accountId: string;
  /** Our own id of the row, a uuid. */
  subscriptionId: string;
  /** The version the row has after the change: it names the change. */
  version: number;
  before: SubscriptionRow | null;
  after: SubscriptionRow;
  /** When what `before` was projected from ended, where it did and Stripe says so. */
  endedAt: Date | null;
  /** What `after` was projected from. */
  subscription: Stripe.Subscription | null;
  /** When the plan changed, where Stripe says so. */
  planChangedAt: Date | null;
  source: Source;
};

/** The audit entries, events and mails that follow from a change of the row: each difference is one fact. */
export function effectsOfChange(change: RowChange): Effect[] {
  return [...auditsOf(change), ...eventsOf(change), ...mailsOfChange(change)];
}

function auditsOf(change: RowChange): Effect[] {
  const { accountId, subscriptionId, version, before, after, source } = change;
  const entry = (action: AuditAction, payload: Readonly<Record<string, unknown>>): Effect => ({
    kind: 'audit',
    key: `${action}:${accountId}:${version}`,
    action,
    target: formatId('sub', subscriptionId),
    payload: { ...payload, ...source },
  });
  const effects: Effect[] = [];
  const goesOn = before !== null && isLive(before.status) && isLive(after.status);
  const changed = change.planChangedAt && { changed_at: toWireTime(change.planChangedAt) };
  // What a consumer may grant: no tier at all unless it is paid for, on trial or within the grace of past_due.
  const from = before?.entitled ? before.tier : null;
  const to = after.entitled ? after.tier : null;
  if (from !== to) effects.push(entry('subscription.tier_changed', { from, to, ...(goesOn && changed) }));
  if (before?.status !== after.status) {
    const statuses = { from: before?.status ?? null, to: after.status };
    effects.push(entry('subscription.status_changed', { ...statuses, ...particulars(change) }));
  }
  if (before && isLive(after.status) && before.billingPeriod !== after.billingPeriod) {
    const periods = { from: before.billingPeriod, to: after.billingPeriod };
    effects.push(entry('subscription.billing_period_changed', { ...periods, ...(goesOn && changed) }));
  }
  const canceling = cancellation(before, after);
  if (canceling?.kind === 'scheduled')
    effects.push(entry('subscription.cancel_scheduled', { ends_at: toWireTime(canceling.endsAt) }));
  if (canceling?.kind === 'undone')
    effects.push(entry('subscription.cancel_unscheduled', replacement(change)));
  for (const what of ['tier', 'billingPeriod'] as const) {
    const booked = bookedChange(before, after, what);
    if (booked === null) continue;
    const action = BOOKED[what][booked.kind];
    const payload =
      booked.kind === 'unscheduled'
        ? { to: booked.to, ...replacement(change) }
        : { from: after[what], to: booked.to, changes_at: toWireTime(booked.changesAt) };
    effects.push(entry(action, payload));
  }
  return effects;
}

const BOOKED = {
  tier: {
    scheduled: 'subscription.tier_change_scheduled',
    unscheduled: 'subscription.tier_change_unscheduled',
  },
  billingPeriod: {
    scheduled: 'subscription.billing_period_change_scheduled',
    unscheduled: 'subscription.billing_period_change_unscheduled',
  },
} as const;

/**
 * What was planned for another subscription, whose place this one has taken, was called off by nobody: it holds no
 * more because that one is replaced, and, where Stripe says so, has ended.
 */
function replacement({ before, after, endedAt }: RowChange): Readonly<Record<string, string>> {
  if (before?.stripeSubscriptionId === after.stripeSubscriptionId) return {};
  return { because: 'replaced', ...(endedAt && { ended_at: toWireTime(endedAt) }) };
}

/** What Stripe says of the new status itself: since when it is over, or why and since when it is paused. */
function particulars({ after, subscription }: RowChange): Readonly<Record<string, string>> {
  if (after.endedAt !== null) return { ended_at: toWireTime(after.endedAt) };
  if (after.status !== 'paused') return {};
  const { reason, since } = pauseOf(after, subscription);
  return { pause_reason: reason, ...(since && { paused_at: toWireTime(since) }) };
}

function eventsOf({ accountId, subscriptionId, version, before, after }: RowChange): Effect[] {
  const ended = before !== null && isLive(before.status) && !isLive(after.status);
  return subscriptionNews(subscriptionId, before, after, { ended }).map((news) => ({
    kind: 'event',
    key: `${news.type}:${accountId}:${version}`,
    news,
  }));
}

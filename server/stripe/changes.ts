import type { AuditAction } from '../../shared/audit.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { Plan } from '../notify/templates.ts';
import { subscriptionNews } from '../webhooks/news.ts';
import type { Effect, Source } from './effects.ts';
import { isLive, type SubscriptionRow } from './project.ts';

export type RowChange = {
  accountId: string;
  /** Our own id of the row, a uuid. */
  subscriptionId: string;
  /** The version the row has after the change: it names the change. */
  version: number;
  before: SubscriptionRow | null;
  after: SubscriptionRow;
  /** Set while a trial runs and no payment is due yet. */
  trialEndsAt: Date | null;
  source: Source;
  now: Date;
};

/** The audit entries, events and mails that follow from a change of the row: each difference is one fact. */
export function effectsOfChange(change: RowChange): Effect[] {
  return [...auditsOf(change), ...eventsOf(change), ...mailsOf(change)];
}

function auditsOf({ accountId, subscriptionId, version, before, after, source }: RowChange): Effect[] {
  const entry = (action: AuditAction, payload: Readonly<Record<string, unknown>>): Effect => ({
    kind: 'audit',
    key: `${action}:${accountId}:${version}`,
    action,
    target: formatId('sub', subscriptionId),
    payload: { ...payload, ...source },
  });
  const effects: Effect[] = [];
  // What a consumer may grant: no tier at all unless it is paid for, on trial or within the grace of past_due.
  const from = before?.entitled ? before.tier : null;
  const to = after.entitled ? after.tier : null;
  if (from !== to) effects.push(entry('subscription.tier_changed', { from, to }));
  if (before?.status !== after.status) {
    effects.push(entry('subscription.status_changed', { from: before?.status ?? null, to: after.status }));
  }
  if (before && isLive(after.status) && before.billingPeriod !== after.billingPeriod) {
    const periods = { from: before.billingPeriod, to: after.billingPeriod };
    effects.push(entry('subscription.billing_period_changed', periods));
  }
  switch (cancellation(before, after)) {
    case 'scheduled':
      effects.push(entry('subscription.cancel_scheduled', { ends_at: toWireTime(after.currentPeriodEnd) }));
      break;
    case 'undone':
      effects.push(entry('subscription.cancel_unscheduled', {}));
      break;
    case null:
  }
  const booked = bookedChange(before, after);
  if (booked?.kind === 'scheduled') {
    const changesAt = toWireTime(after.currentPeriodEnd);
    const payload = { from: after.tier, to: booked.tier, changes_at: changesAt };
    effects.push(entry('subscription.tier_change_scheduled', payload));
  }
  if (booked?.kind === 'unscheduled') {
    effects.push(entry('subscription.tier_change_unscheduled', { to: booked.tier }));
  }
  return effects;
}

function eventsOf({ accountId, subscriptionId, version, before, after }: RowChange): Effect[] {
  const ended = before !== null && isLive(before.status) && !isLive(after.status);
  return subscriptionNews(subscriptionId, before, after, { ended }).map((news) => ({
    kind: 'event',
    key: `${news.type}:${accountId}:${version}`,
    news,
  }));
}

function mailsOf({ accountId, version, before, after, trialEndsAt, now }: RowChange): Effect[] {
  const key = (what: string) => `subscription:${accountId}:${version}:${what}`;
  const plan: Plan = { tier: after.tier, billingPeriod: after.billingPeriod };
  const wasLive = before !== null && isLive(before.status);

  if (wasLive && !isLive(after.status)) {
    const data = { plan: { tier: before.tier, billingPeriod: before.billingPeriod }, endedAt: now };
    return [{ kind: 'mail', key: key('ended'), template: 'subscription_ended', data }];
  }
  const mails: Effect[] = [];
  if (!wasLive && after.entitled) {
    const data = { plan, currentPeriodEnd: after.currentPeriodEnd, trialEndsAt };
    mails.push({ kind: 'mail', key: key('started'), template: 'subscription_started', data });
  }
  if (wasLive && before.entitled && !after.entitled) {
    const reason = after.status === 'paused' ? 'paused' : 'unpaid';
    const data = { plan, reason, payUrl: null } as const;
    mails.push({ kind: 'mail', key: key('paused'), template: 'subscription_paused', data });
  }
  if (wasLive && !before.entitled && after.entitled) {
    mails.push({ kind: 'mail', key: key('resumed'), template: 'subscription_resumed', data: { plan } });
  }
  if (wasLive && (before.tier !== after.tier || before.billingPeriod !== after.billingPeriod)) {
    const from = { tier: before.tier, billingPeriod: before.billingPeriod };
    const data = { from, to: plan, changedAt: now };
    mails.push({ kind: 'mail', key: key('plan_changed'), template: 'plan_changed', data });
  }
  switch (cancellation(before, after)) {
    case 'scheduled': {
      const data = { plan, endsAt: after.currentPeriodEnd };
      mails.push({ kind: 'mail', key: key('canceling'), template: 'cancellation_scheduled', data });
      break;
    }
    case 'undone': {
      const data = { plan, renewsAt: after.currentPeriodEnd };
      mails.push({ kind: 'mail', key: key('staying'), template: 'cancellation_undone', data });
      break;
    }
    case null:
  }
  const booked = bookedChange(before, after);
  if (booked?.kind === 'scheduled') {
    const to = { tier: booked.tier, billingPeriod: after.billingPeriod };
    const data = { from: plan, to, changesAt: after.currentPeriodEnd };
    mails.push({ kind: 'mail', key: key('booked'), template: 'plan_change_scheduled', data });
  }
  if (booked?.kind === 'unscheduled') {
    mails.push({ kind: 'mail', key: key('unbooked'), template: 'plan_change_unscheduled', data: { plan } });
  }
  return mails;
}

/** Reaching the end of a scheduled cancellation is neither: only a subscription that goes on can be undone. */
function cancellation(before: SubscriptionRow | null, after: SubscriptionRow): 'scheduled' | 'undone' | null {
  const planned = before !== null && isLive(before.status) && before.cancelAtPeriodEnd;
  if (!isLive(after.status) || planned === after.cancelAtPeriodEnd) return null;
  return after.cancelAtPeriodEnd ? 'scheduled' : 'undone';
}

/** A booked change that has just taken effect was not taken back. */
function bookedChange(before: SubscriptionRow | null, after: SubscriptionRow) {
  const was = before?.pendingTier ?? null;
  const is = after.pendingTier;
  if (was === is || !isLive(after.status)) return null;
  if (is !== null) return { kind: 'scheduled', tier: is } as const;
  if (was === null || was === after.tier) return null;
  return { kind: 'unscheduled', tier: was } as const;
}

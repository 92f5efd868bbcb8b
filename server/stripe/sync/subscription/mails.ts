import type { Next, Plan } from '../../../notify/templates.ts';
import type { Effect } from '../effects.ts';
import type { RowChange } from './changes.ts';
import { bookedPlanChange, cancellation } from './comparison.ts';
import { nextOf } from './next.ts';
import { pauseOf } from './pause.ts';
import { isLive } from './project.ts';
import { endBySchedule, isSamePlan } from './schedule.ts';

/** The mails that follow from a change of the row. */
export function mailsOfChange(change: RowChange): Effect[] {
  const { accountId, version, before, after, subscription } = change;
  const key = (what: string) => `subscription:${accountId}:${version}:${what}`;
  const plan = planOf(after);
  const live = before !== null && isLive(before.status) ? before : null;
  const next = nextOf(after, subscription);

  if (live && !isLive(after.status)) {
    const data = { plan: planOf(live), endedAt: change.endedAt };
    return [{ kind: 'mail', key: key('ended'), template: 'subscription_ended', data }];
  }
  const mails: Effect[] = [];
  if (!live && after.entitled)
    mails.push({ kind: 'mail', key: key('started'), template: 'subscription_started', data: { plan, next } });
  if (live?.entitled && !after.entitled) {
    const data = { plan, ...whyOnHold(change), payUrl: null };
    mails.push({ kind: 'mail', key: key('paused'), template: 'subscription_paused', data });
  }
  if (live && !live.entitled && after.entitled)
    mails.push({ kind: 'mail', key: key('resumed'), template: 'subscription_resumed', data: { plan, next } });
  // What was planned for another subscription, which this one has replaced, was neither moved nor called off.
  const isSame = before?.stripeSubscriptionId === after.stripeSubscriptionId;
  const otherEndedAt = isSame ? null : change.endedAt;
  if (live && (otherEndedAt !== null || !isSamePlan(live, after))) {
    const changedAt = change.planChangedAt;
    const data = { from: planOf(live), to: plan, changedAt, inEffect: after.entitled, endedAt: otherEndedAt };
    mails.push({ kind: 'mail', key: key('plan_changed'), template: 'plan_changed', data });
  }
  const canceling = cancellation(before, after);
  if (canceling?.kind === 'scheduled') {
    const earlier = isSame ? canceling.was : null;
    const data = { plan, endsAt: canceling.endsAt, before: earlier, ...untilTheEnd(change, next) };
    mails.push({ kind: 'mail', key: key('canceling'), template: 'cancellation_scheduled', data });
  }
  if (canceling?.kind === 'undone' && isSame)
    mails.push({ kind: 'mail', key: key('staying'), template: 'cancellation_undone', data: { plan, next } });
  const booked = bookedPlanChange(before, after);
  if (booked?.kind === 'scheduled') {
    const { changesAt } = booked.plan;
    const earlier = isSame ? booked.replaced : null;
    const replaced = earlier && { to: planOf(earlier), changesAt: earlier.changesAt };
    const data = { from: plan, to: planOf(booked.plan), changesAt, replaced };
    mails.push({ kind: 'mail', key: key('booked'), template: 'plan_change_scheduled', data });
  }
  if (booked?.kind === 'unscheduled' && isSame) {
    const data = { plan, calledOff: planOf(booked.plan) };
    mails.push({ kind: 'mail', key: key('unbooked'), template: 'plan_change_unscheduled', data });
  }
  return mails;
}

const planOf = ({ tier, billingPeriod }: Plan): Plan => ({ tier, billingPeriod });

function whyOnHold({ after, subscription }: RowChange) {
  return after.status === 'paused'
    ? pauseOf(after, subscription)
    : ({ reason: 'unpaid', since: null } as const);
}

/** What may be said about the time until a planned end: that it works, whether it renews before, and is undone. */
function untilTheEnd({ after, subscription }: RowChange, next: Next) {
  const { status, endsAt, currentPeriodEnd } = after;
  if (status !== 'active' && status !== 'trialing') return { until: null, undoable: false };
  if (next?.kind === 'ends') {
    // The portal takes back what it sets itself: an end with the period. A schedule's end is not its to undo.
    const ofPortal = subscription !== null && endBySchedule(subscription) === null;
    const undoable = ofPortal && endsAt?.getTime() === currentPeriodEnd.getTime();
    return { until: 'works', undoable } as const;
  }
  return { until: next?.kind === 'renews' ? 'renews' : null, undoable: false } as const;
}

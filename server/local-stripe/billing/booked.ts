import type Stripe from 'stripe';
import type { World } from '../world.ts';
import type { DraftLine } from './lines.ts';
import { planChange } from './plan-change.ts';
import { itemChanges } from './schedule-phases.ts';
import { scheduleOf } from './schedule-state.ts';
import { itemList, periodEnd } from './subscription-object.ts';
import { PRORATIONS, wordOf } from './words.ts';

/** What a schedule will have made of its subscription by the next invoice, and what that bills by itself. */
export interface Booked {
  readonly subscription: Stripe.Subscription;
  readonly prorations: readonly DraftLine[];
  /** Lines of a period that begins with the phase; empty where the phase begins with the next period, or in the middle of one. */
  readonly newPeriod: readonly DraftLine[];
  /** When the phase begins. */
  readonly at: number;
}

/** The phase that begins before the next renewal or with it, carried out; null where none is booked. */
export function bookedChange(world: World, subscription: Stripe.Subscription): Booked | null {
  const schedule = governing(world, subscription);
  const current = schedule?.current_phase;
  if (!schedule || !current) return null;
  const phase = schedule.phases.find(({ start_date }) => start_date > current.start_date);
  if (!phase || phase.start_date > periodEnd(subscription)) return null;
  const change = {
    items: itemChanges(world, subscription, phase),
    prorationBehavior: wordOf(PRORATIONS, phase.proration_behavior) ?? 'create_prorations',
    prorationDate: null,
    anchorNow: false,
    trialEnd: undefined,
  } as const;
  const plan = planChange(world, subscription, change, phase.start_date);
  return {
    subscription: {
      ...subscription,
      items: itemList(subscription.id, plan.items),
      billing_cycle_anchor: plan.anchor,
    },
    prorations: plan.prorations,
    newPeriod: plan.newPeriod,
    at: phase.start_date,
  };
}

/** Whether a subscription ends before it would renew: by itself, or because its schedule says so. */
export function endsBeforeRenewal(world: World, subscription: Stripe.Subscription): boolean {
  const end = periodEnd(subscription);
  if (subscription.cancel_at !== null && subscription.cancel_at <= end) return true;
  const schedule = governing(world, subscription);
  if (schedule?.end_behavior !== 'cancel') return false;
  const last = schedule.phases.at(-1);
  return last !== undefined && last.end_date <= end;
}

function governing(world: World, subscription: Stripe.Subscription): Stripe.SubscriptionSchedule | null {
  const schedule = scheduleOf(world, subscription);
  return schedule?.status === 'active' ? schedule : null;
}

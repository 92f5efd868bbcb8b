import type { Tx } from '../../database/connection.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { Alarm } from '../deps.ts';
import type { Cause } from './cause.ts';
import type { Effect, Source } from './effects.ts';
import type { Seen } from './look.ts';
import type { Ours } from './ours.ts';
import { effectsOfDuplicates, type Outlooks, returnLatePayment } from './second/duplicates.ts';
import { endSecond } from './second/second.ts';
import type { Surplus } from './second/surplus.ts';
import { type Alert, isLive, planOf } from './subscription/project.ts';

/** What a pass has done at Stripe before it writes, and what is to be written down about it. */
export type Acts = {
  /** Second subscriptions that we have ended, now or before. */
  readonly surplus: readonly Surplus[];
  /** What a person has to look at: what was seen, and what Stripe refuses to end. */
  readonly alerts: readonly Alert[];
  readonly duplicates: readonly Effect[];
  readonly outlooks: Outlooks;
  /** By invoice, what came of a payment for a second subscription after its end. */
  readonly late: ReadonlyMap<string, readonly Effect[]>;
  readonly alarms: readonly Alarm[];
};

type Acting = { em: Tx; stripe: StripeCalls; account: Ours['account']; cause: Cause; source: Source };

/**
 * Ends second subscriptions and gives back what they cost. It comes before anything is written, and is safe to do
 * again: what was ended is marked at Stripe, and what was refunded is read from there, so a crash loses no trace.
 */
export async function act({ em, stripe, account, cause, source }: Acting, seen: Seen): Promise<Acts> {
  const { subscriptions, prices, projection, facts } = seen;
  const { row } = projection;
  const alarms: Alarm[] = [];
  const { surplus, left } = await endSecond({ stripe, account, alarms }, seen);
  const alerts = [...projection.alerts, ...left];
  const context = { tx: em, stripe, account, alarms, subscriptions, effects: [] };
  const { effects: duplicates, outlooks } = await effectsOfDuplicates(context, surplus, {
    source,
    anew: cause.kind === 'reconcile',
    planOf: (subscription) => planOf(subscription, prices),
    kept: row && isLive(row.status) ? { tier: row.tier, billingPeriod: row.billingPeriod } : null,
  });
  const late = new Map<string, readonly Effect[]>();
  for (const { fact, eventId } of facts) {
    if (fact.kind !== 'invoice' || late.has(fact.facts.invoice.id)) continue;
    const why = eventId === null ? source : { stripe_event_id: eventId };
    late.set(fact.facts.invoice.id, await returnLatePayment(context, fact.facts.invoice, why));
  }
  return { surplus, alerts, duplicates, outlooks, late, alarms };
}

import { isDeepStrictEqual } from 'node:util';
import type Stripe from 'stripe';
import type { Tx } from '../../../database/connection.ts';
import { Account, FormerStripeCustomer } from '../../../database/entities/account.ts';
import { CheckoutAttempt, type Subscription } from '../../../database/entities/billing.ts';
import { AuditEntry } from '../../../database/entities/journal.ts';
import type { LockedAccount } from '../../../database/locks.ts';
import { uuidv7 } from '../../../database/uuid.ts';
import type { Alarm } from '../../deps.ts';
import type { Effect, Source } from '../effects.ts';
import { effectsOfChange } from './changes.ts';
import { columnsOf, type Held, type NewRow } from './columns.ts';
import { type Alert, isLive, type SubscriptionRow } from './project.ts';

export type RowChange = {
  accountId: string;
  held: Held | null;
  /** Null where Stripe holds nothing that we understand: then the row stays as it is. */
  after: SubscriptionRow | null;
  /** The subscription that was the row until now, as it is now, where another has taken its place. */
  former: SubscriptionRow | null;
  /** What `after` was projected from. */
  chosen: Stripe.Subscription | null;
  /** All of the customer's, with those that we ended. */
  subscriptions: readonly Stripe.Subscription[];
  planChangedAt: Date | null;
  source: Source;
  now: Date;
};

/**
 * The row as it is to be written if anything in it changed, as its next version, and what follows from the change.
 * Where one subscription had ended before the next began, those are two changes, however late we hear of them.
 */
export function nextRow(change: RowChange): { row: NewRow | null; effects: Effect[] } {
  const { accountId, held, after, former, chosen: subscription, planChangedAt, source, now } = change;
  const before = held?.row ?? null;
  if (after === null || (before !== null && isDeepStrictEqual(before, after)))
    return { row: null, effects: [] };
  const subscriptionId = held?.id ?? uuidv7(now);
  let version = held?.version ?? 0;
  const step = (from: SubscriptionRow | null, to: SubscriptionRow): Effect[] => {
    version += 1;
    const isSame = from === null || from.stripeSubscriptionId === to.stripeSubscriptionId;
    const endedAt = isSame ? to.endedAt : (former?.endedAt ?? null);
    return effectsOfChange({
      ...{ accountId, subscriptionId, version, before: from, after: to, endedAt },
      subscription: to === after ? subscription : null,
      planChangedAt,
      source,
    });
  };
  const between = before && endedBetween(before, change);
  const effects = between ? [...step(before, between), ...step(between, after)] : step(before, after);
  return { row: columnsOf(after, { id: subscriptionId, accountId, version, updatedAt: now }), effects };
}

/**
 * The row of a subscription that lived when we last looked, and had ended before the present one was made, with
 * none in its place meanwhile. Within one second that is not known, and both may have lived.
 */
function endedBetween(before: SubscriptionRow, { former, chosen, subscriptions }: RowChange) {
  if (!former?.endedAt || !chosen || !isLive(before.status) || isLive(former.status)) return null;
  const endedAt = former.endedAt.getTime() / 1000;
  const lived = subscriptions.some(
    ({ id, status, created, ended_at }) =>
      id !== former.stripeSubscriptionId &&
      !NEVER_LIVED.includes(status) &&
      created <= endedAt &&
      (!ended_at || ended_at >= endedAt),
  );
  return lived || chosen.created <= endedAt ? null : former;
}

const NEVER_LIVED: readonly string[] = ['incomplete', 'incomplete_expired'];

/** The part of the stored row that is a projection. */
export function projected(held: Subscription): SubscriptionRow {
  const { stripeSubscriptionId, tier, status, billingPeriod, entitled } = held;
  const { currentPeriodStart, currentPeriodEnd, endsAt = null, endedAt = null } = held;
  const { pendingTier, pendingBillingPeriod, pendingChangesAt } = held;
  const pending =
    pendingTier && pendingBillingPeriod && pendingChangesAt
      ? { tier: pendingTier, billingPeriod: pendingBillingPeriod, changesAt: pendingChangesAt }
      : null;
  const period = { billingPeriod, currentPeriodStart, currentPeriodEnd };
  return { stripeSubscriptionId, tier, pending, status, ...period, endsAt, endedAt, entitled };
}

/**
 * Raises an alarm for each thing a person has to look at, and writes an unknown price, or two that live on, down
 * once. That two live on is raised once as well: the nightly comparison names it until a person has decided.
 */
export async function recordAlerts(
  tx: Tx,
  alerts: readonly Alert[],
  source: Source,
  alarms: Alarm[],
): Promise<Effect[]> {
  const keys = alerts.flatMap((alert) => (alert.kind === 'duplicate_left' ? keyOfLeft(alert) : []));
  const written =
    keys.length === 0
      ? []
      : await tx.find(AuditEntry, { dedupeKey: { $in: keys } }, { fields: ['dedupeKey'] });
  const known = new Set(written.map(({ dedupeKey }) => dedupeKey));
  return alerts.flatMap((alert): Effect[] => {
    const { kind, ...details } = alert;
    if (alert.kind === 'duplicate_left') {
      const key = keyOfLeft(alert);
      if (known.has(key)) return [];
      alarms.push({ kind, details });
      const { stripeSubscriptionId: target, beside, because, of } = alert;
      const payload = { beside, because, because_of: of, ...source };
      return [{ kind: 'audit', key, action: 'subscription.duplicate_left', target, payload }];
    }
    alarms.push({ kind, details });
    if (alert.kind === 'unknown_status') return [];
    const priceIds = [...alert.priceIds].sort();
    return [
      {
        kind: 'audit',
        key: `price_unknown:${alert.stripeSubscriptionId}:${priceIds.join(',')}`,
        action: 'subscription.price_unknown',
        target: alert.stripeSubscriptionId,
        payload: { price_ids: priceIds, ...source },
      },
    ];
  });
}

/** The pair and the reason: that a person was told for one reason does not tell the next one. */
function keyOfLeft(alert: Extract<Alert, { kind: 'duplicate_left' }>): string {
  const pair = [alert.stripeSubscriptionId, alert.beside].sort().join(':');
  return `duplicate_left:${pair}:${alert.because}`;
}

/**
 * Lets go of a customer that Stripe has deleted: the next purchase gets a new one, under a new key. It stays known
 * as a former one, since what was paid for it can still be given back, disputed or settled by a slow bank. What
 * was open for it can no longer be paid; a payment on its way still comes, and its pack keeps its place.
 */
export async function forgetCustomer(
  tx: Tx,
  account: LockedAccount,
  { source, now }: { source: Source; now: Date },
): Promise<Effect[]> {
  const { id, stripeCustomerId, stripeCustomerGeneration } = account;
  if (!stripeCustomerId) return [];
  const next = {
    stripeCustomerId: null,
    stripeEmail: null,
    stripeCustomerGeneration: stripeCustomerGeneration + 1,
  };
  await tx.nativeUpdate(Account, { id }, next);
  await tx
    .createQueryBuilder(FormerStripeCustomer)
    .insert({ stripeCustomerId, accountId: id, since: now })
    .onConflict('stripeCustomerId')
    .ignore()
    .execute();
  await tx.nativeUpdate(
    CheckoutAttempt,
    {
      accountId: id,
      state: { $nin: ['completed', 'expired'] },
      $not: { kind: 'trial_pack', state: 'awaiting_payment' },
    },
    { state: 'expired', updatedAt: now },
  );
  return [
    {
      kind: 'audit',
      key: `customer_deleted:${stripeCustomerId}`,
      action: 'stripe_customer.deleted',
      target: stripeCustomerId,
      payload: source,
    },
  ];
}

import { type BillingState, SUBSCRIPTION_STATUSES, type SubscriptionStatus } from '../../shared/billing.ts';
import { BILLING_PERIODS, type BillingPeriod, TIERS, type Tier, TRIAL_PACK } from '../../shared/catalog.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { Fields } from '../database/read-by-place.ts';

/** What is stored of an account's purchases. Moments in milliseconds. */
export type BillingRow = {
  readonly subscription: {
    readonly id: string;
    readonly tier: Tier;
    readonly status: SubscriptionStatus;
    readonly billingPeriod: BillingPeriod;
    readonly periodStartMs: number;
    readonly periodEndMs: number;
    readonly cancelAtPeriodEnd: boolean;
    readonly isEntitled: boolean;
  } | null;
  readonly trialPack: {
    readonly state: PackState;
    readonly expiresMs: number;
    readonly remainingSeconds: number;
  } | null;
};

const PACK_STATES = ['active', 'suspended', 'revoked', 'expired'] as const;
type PackState = (typeof PACK_STATES)[number];

/** The columns of a BillingRow, from the tables `subscription s` and `trial_pack t`; first in their statements. */
export const BILLING_COLUMNS = `
  s.id, s.tier, s.status, s.billing_period,
  (extract(epoch from s.current_period_start) * 1000)::float8,
  (extract(epoch from s.current_period_end) * 1000)::float8,
  s.cancel_at_period_end, s.entitled,
  t.state, (extract(epoch from t.expires_at) * 1000)::float8, t.remaining_seconds`;

/** How many they are: what else a statement reads begins here. */
export const BILLING_WIDTH = 11;

/** Reads them by their places. Throws for a word that this version does not know. */
export function billingRow(fields: Fields): BillingRow {
  const [id, tier, status, period, start, end, cancels, entitled, state, expires, seconds] = fields;
  return {
    subscription:
      id === null || id === undefined
        ? null
        : {
            id,
            tier: tierOf(tier),
            status: statusOf(status),
            billingPeriod: periodOf(period),
            periodStartMs: Number(start),
            periodEndMs: Number(end),
            cancelAtPeriodEnd: cancels === 't',
            isEntitled: entitled === 't',
          },
    trialPack:
      state === null
        ? null
        : { state: packStateOf(state), expiresMs: Number(expires), remainingSeconds: Number(seconds) },
  };
}

/**
 * The tier that an account may use, from the same columns. A word that this version does not know, in a row of a
 * newer one, grants nothing, and keeps nobody out.
 */
export function entitledTier(fields: Fields): Tier | 'free' {
  const tier = fields[1];
  return fields[7] === 't' ? (TIERS.find((one) => one === tier) ?? 'free') : 'free';
}

const tierOf = oneOf(TIERS);
const statusOf = oneOf(SUBSCRIPTION_STATUSES);
const periodOf = oneOf(BILLING_PERIODS);
const packStateOf = oneOf(PACK_STATES);

function oneOf<T extends string>(words: readonly T[]): (text: string | null | undefined) => T {
  const known = new Map<string | null | undefined, T>(words.map((word) => [word, word]));
  return (text) => {
    const word = known.get(text);
    if (word === undefined)
      throw new Error(`The database says ${text}, which is none of ${words.join(', ')}`);
    return word;
  };
}

/** The documented state, exactly those fields. */
export function billingState(row: BillingRow, now: Date): BillingState {
  return { subscription: subscription(row), trial_pack: trialPack(row, now) };
}

function subscription({ subscription: held }: BillingRow): BillingState['subscription'] {
  if (held === null) return null;
  return {
    id: formatId('sub', held.id),
    tier: held.tier,
    status: held.status,
    billing_period: held.billingPeriod,
    current_period_start: toWireTime(new Date(held.periodStartMs)),
    current_period_end: toWireTime(new Date(held.periodEndMs)),
    cancel_at_period_end: held.cancelAtPeriodEnd,
  };
}

function trialPack({ trialPack: held }: BillingRow, now: Date): BillingState['trial_pack'] {
  if (held === null) return { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false };
  const { state, expiresMs, remainingSeconds: seconds } = held;
  // The job that writes off what expired may be late; the answer is not.
  const over = state === 'revoked' || state === 'expired' || expiresMs <= now.getTime();
  return {
    active: state === 'active' && !over && seconds > 0,
    credit_cents_remaining: over ? 0 : Math.ceil(seconds / TRIAL_PACK.secondsPerCent),
    expires_at: toWireTime(new Date(expiresMs)),
    redeemed: true,
  };
}

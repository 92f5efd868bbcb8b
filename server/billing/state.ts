import type { BillingState, SubscriptionStatus } from '../../shared/billing.ts';
import { type BillingPeriod, type Tier, TRIAL_PACK } from '../../shared/catalog.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';

type SubscriptionColumns = {
  subscription_id: string;
  tier: Tier;
  status: SubscriptionStatus;
  billing_period: BillingPeriod;
  period_start_ms: number;
  period_end_ms: number;
  cancel_at_period_end: boolean;
  entitled: boolean;
};

type TrialPackColumns = {
  pack_state: 'active' | 'suspended' | 'revoked' | 'expired';
  pack_expires_ms: number;
  remaining_seconds: number;
};

/** What is stored of an account's purchases, as `billingColumns` selects it. */
export type BillingRow = (SubscriptionColumns | { subscription_id: null }) &
  (TrialPackColumns | { pack_state: null });

/** The columns of a BillingRow, from the tables `subscription s` and `trial_pack t`. Moments as milliseconds. */
export const BILLING_COLUMNS = `
  s.id as subscription_id, s.tier, s.status, s.billing_period,
  (extract(epoch from s.current_period_start) * 1000)::float8 as period_start_ms,
  (extract(epoch from s.current_period_end) * 1000)::float8 as period_end_ms,
  s.cancel_at_period_end, s.entitled,
  t.state as pack_state, (extract(epoch from t.expires_at) * 1000)::float8 as pack_expires_ms,
  t.remaining_seconds`;

/** The documented state, exactly those fields. */
export function billingState(row: BillingRow, now: Date): BillingState {
  return { subscription: subscription(row), trial_pack: trialPack(row, now) };
}

function subscription(row: BillingRow): BillingState['subscription'] {
  if (row.subscription_id === null) return null;
  return {
    id: formatId('sub', row.subscription_id),
    tier: row.tier,
    status: row.status,
    billing_period: row.billing_period,
    current_period_start: toWireTime(new Date(row.period_start_ms)),
    current_period_end: toWireTime(new Date(row.period_end_ms)),
    cancel_at_period_end: row.cancel_at_period_end,
  };
}

function trialPack(row: BillingRow, now: Date): BillingState['trial_pack'] {
  if (row.pack_state === null) {
    return { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false };
  }
  const { pack_state: state, pack_expires_ms: expiresMs, remaining_seconds: seconds } = row;
  // The job that writes off what expired may be late; the answer is not.
  const over = state === 'revoked' || state === 'expired' || expiresMs <= now.getTime();
  return {
    active: state === 'active' && !over && seconds > 0,
    credit_cents_remaining: over ? 0 : Math.ceil(seconds / TRIAL_PACK.secondsPerCent),
    expires_at: toWireTime(new Date(expiresMs)),
    redeemed: true,
  };
}

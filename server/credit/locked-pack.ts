import { ProblemError } from '../../shared/errors.ts';
import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import { CLOCK_SKEW_MS, type Purse } from './spending.ts';

/** A pack that nobody else can change until the transaction ends. */
export type LockedPack = Purse &
  Pick<TrialPack, 'id' | 'accountId' | 'stripeSessionId' | 'grantedSeconds' | 'redeemedAt' | 'expiresAt'> & {
    isNearlyUsedTold: boolean;
    /** The moment at which it was locked, by the database's clock and what ours was moved ahead. */
    at: Date;
  };

/**
 * Locks the pack of an account and frees what reservations hold beyond their time. Whoever needs the account's
 * row as well locks that first. Throws `not-found` for an unknown account and `no_trial_pack` for one without.
 */
export async function lockPack(tx: Tx, accountId: string, clock: Clock): Promise<LockedPack> {
  const aheadMs = aheadOf(clock);
  const [row] = await tx.execute<PackRow[]>(LOCK, [aheadMs, accountId]);
  if (!row) {
    if ((await tx.count(Account, { id: accountId })) === 0) {
      throw new ProblemError('not-found', 'There is no such account.');
    }
    throw new ProblemError('conflict', 'This account has not bought a trial pack, so it has no credit.', {
      code: 'no_trial_pack',
    });
  }
  return {
    id: row.id,
    accountId,
    stripeSessionId: row.stripe_session_id,
    state: row.state,
    grantedSeconds: row.granted_seconds,
    remainingSeconds: row.remaining_seconds,
    heldSeconds: row.held_seconds === 0 ? 0 : await lapse(tx, accountId, aheadMs),
    redeemedAt: new Date(row.redeemed_ms),
    expiresAt: new Date(row.expires_ms),
    isNearlyUsedTold: row.is_nearly_used_told,
    isOver: row.expires_ms <= row.at_ms,
    at: new Date(row.at_ms),
  };
}

/** Refuses use in the future or before there was a pack. */
export function checkUsedAt(usedAt: Date, { redeemedAt, at }: LockedPack): void {
  const message =
    usedAt < redeemedAt
      ? 'must not be before the trial pack was paid for'
      : usedAt.getTime() > at.getTime() + CLOCK_SKEW_MS
        ? 'must not be in the future'
        : null;
  if (message !== null) {
    throw new ProblemError('validation-failed', `used_at ${message}.`, {
      errors: [{ field: 'used_at', message }],
    });
  }
}

type PackRow = {
  id: string;
  stripe_session_id: string;
  state: TrialPack['state'];
  granted_seconds: number;
  remaining_seconds: number;
  held_seconds: number;
  redeemed_ms: number;
  expires_ms: number;
  at_ms: number;
  is_nearly_used_told: boolean;
};

// The clock is read after the lock was waited for: credit that ended meanwhile has ended.
const LOCK = `
  with pack as materialized (select *, ?::float8 as ahead_ms from trial_pack where account_id = ? for no key update)
  select id, stripe_session_id, state, granted_seconds, remaining_seconds, held_seconds,
         nearly_used_at is not null as is_nearly_used_told,
         (extract(epoch from redeemed_at) * 1000)::float8 as redeemed_ms,
         (extract(epoch from expires_at) * 1000)::float8 as expires_ms,
         floor(extract(epoch from clock_timestamp()) * 1000 + ahead_ms)::float8 as at_ms
    from pack`;

/** Frees what is held beyond its time, and returns what still is. */
async function lapse(tx: Tx, accountId: string, aheadMs: number): Promise<number> {
  const [row] = await tx.execute<{ held_seconds: number }[]>(LAPSE, [accountId, aheadMs, accountId]);
  if (!row) throw new Error(`The pack of account ${accountId} was locked and is gone`);
  return row.held_seconds;
}

const LAPSE = `
  with lapsed as (
    update credit_reservation set state = 'lapsed'
     where account_id = ? and state = 'held' and expires_at <= clock_timestamp() + ? * interval '1 millisecond'
    returning held_seconds
  )
  update trial_pack set held_seconds = held_seconds - coalesce((select sum(held_seconds) from lapsed), 0)
   where account_id = ?
  returning held_seconds`;

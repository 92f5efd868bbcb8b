import { TRIAL_PACK } from '../../shared/catalog.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import type { TrialPackProjection } from './project.ts';

export type PackStanding = Pick<TrialPack, 'state' | 'remainingSeconds'>;

/**
 * Where a pack stands, from what is paid for, what was spent and the time, and from nothing that was known
 * before: so it comes out the same in whatever order the facts arrived. The balance is never below zero.
 */
export function settle(
  projection: Exclude<TrialPackProjection, { standing: 'unpaid' }>,
  { spentSeconds, expiresAt }: { spentSeconds: number; expiresAt: Date },
  now: Date,
): PackStanding {
  switch (projection.standing) {
    case 'refunded':
    case 'dispute_lost':
      return { state: 'revoked', remainingSeconds: 0 };
    case 'paid':
    case 'disputed': {
      if (now >= expiresAt) return { state: 'expired', remainingSeconds: 0 };
      return {
        state: projection.standing === 'disputed' ? 'suspended' : 'active',
        remainingSeconds: Math.max(0, projection.allowedSeconds - spentSeconds),
      };
    }
  }
}

/** What happened to a pack between two standings; `reduced` is a refund of a part. */
export type PackChange = 'suspended' | 'reinstated' | 'reduced' | 'revoked' | 'expired';

/** Names the step from one standing to the next, null where there is none. */
export function changeOf(before: PackStanding, after: PackStanding): PackChange | null {
  if (before.state !== after.state) return after.state === 'active' ? 'reinstated' : after.state;
  if (before.remainingSeconds === after.remainingSeconds) return null;
  return after.remainingSeconds < before.remainingSeconds ? 'reduced' : 'reinstated';
}

const DAY_MS = 86_400_000;

/** The end of a pack that was paid at this moment. */
export function expiryOf(paidAt: Date): Date {
  return new Date(paidAt.getTime() + TRIAL_PACK.days * DAY_MS);
}

/** When the customer is told that unspent credit ends: a day before it does. */
export function noticeDueAt(expiresAt: Date): Date {
  return new Date(expiresAt.getTime() - DAY_MS);
}

/** Concurrent-seconds that can be spent now: none of a pack that is on hold, taken back or past its end. */
export function spendableSeconds(
  pack: Pick<TrialPack, 'state' | 'remainingSeconds' | 'expiresAt'>,
  now: Date,
): number {
  return pack.state === 'active' && now < pack.expiresAt ? pack.remainingSeconds : 0;
}

/** Concurrent-seconds in whole US cents, rounded up: 0 exactly when nothing is left. */
export function creditCentsRemaining(seconds: number): number {
  return Math.ceil(seconds / TRIAL_PACK.secondsPerCent);
}

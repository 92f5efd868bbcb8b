import type { CreditStatus } from '../../shared/internal.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import type { CreditOutcome } from '../database/entities/credit.ts';

/** A pack as those who spend see it. `isOver`: past its end by the database's clock. */
export type Purse = Pick<TrialPack, 'state' | 'remainingSeconds' | 'heldSeconds'> & { isOver: boolean };

/**
 * Concurrent-seconds that can be taken now by somebody whose own reservation, counted in `heldSeconds`, holds
 * `ownSeconds`. A refund can leave less than is held; then whoever comes first gets it.
 */
export function takeableSeconds(purse: Purse, ownSeconds = 0): number {
  const { remainingSeconds, heldSeconds } = purse;
  if (blockOf(purse) !== null) return 0;
  return Math.min(remainingSeconds, ownSeconds + Math.max(0, remainingSeconds - heldSeconds));
}

/** How the credit of a pack stands. */
export function outcomeOf(purse: Purse): CreditOutcome {
  const block = blockOf(purse);
  if (block !== null) return block;
  if (purse.remainingSeconds === 0) return 'used_up';
  return purse.heldSeconds < purse.remainingSeconds ? 'active' : 'held';
}

/** What is left to be spent where credit stands like this. */
export function remainingOf(status: CreditStatus, balanceSeconds: number): number {
  return status === 'active' || status === 'held' ? balanceSeconds : 0;
}

/** Why nothing can be spent, whatever is left. */
function blockOf({ state, isOver }: Purse): 'revoked' | 'expired' | 'suspended' | null {
  if (state === 'revoked') return 'revoked';
  if (state === 'expired' || isOver) return 'expired';
  return state === 'suspended' ? 'suspended' : null;
}

/** Whether a tenth of the grant or less is left. */
export function isNearlyUsed(balanceSeconds: number, grantedSeconds: number): boolean {
  return balanceSeconds * NEARLY_USED_PARTS <= grantedSeconds;
}

export const NEARLY_USED_PARTS = 10;

/** How far ahead of the database's clock the runtime's may be. */
export const CLOCK_SKEW_MS = 60_000;

import { ProblemError } from '../../shared/errors.ts';
import type { BalanceResult } from '../../shared/internal.ts';
import { aheadOf, type Clock, toWireTime } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import { outcomeOf, remainingOf, takeableSeconds } from './spending.ts';

/**
 * Reads the credit of an account at this moment, in one statement: past its end there is none, and reservations
 * past theirs hold nothing, whether or not anybody has written that down. Throws `not-found`.
 */
export async function readBalance(
  { db: { pool }, clock }: { db: Pick<Database, 'pool'>; clock: Clock },
  accountId: string,
): Promise<BalanceResult> {
  const { rows } = await pool.query<BalanceRow>({ ...READ, values: [accountId, aheadOf(clock)] });
  const [row] = rows;
  if (!row) throw new ProblemError('not-found', 'There is no such account.');
  if (row.state === null) return NOTHING;
  const purse = {
    state: row.state,
    remainingSeconds: row.remaining_seconds,
    heldSeconds: row.held_seconds,
    isOver: row.is_over,
  };
  const status = outcomeOf(purse);
  const remaining = remainingOf(status, row.remaining_seconds);
  return {
    status,
    granted_seconds: row.granted_seconds,
    remaining_seconds: remaining,
    held_seconds: Math.min(remaining, row.held_seconds),
    free_seconds: takeableSeconds(purse),
    expires_at: toWireTime(new Date(row.expires_ms)),
  };
}

const NOTHING: BalanceResult = {
  status: 'none',
  granted_seconds: 0,
  remaining_seconds: 0,
  held_seconds: 0,
  free_seconds: 0,
  expires_at: null,
};

type BalanceRow =
  | { state: null }
  | {
      state: TrialPack['state'];
      granted_seconds: number;
      remaining_seconds: number;
      held_seconds: number;
      expires_ms: number;
      is_over: boolean;
    };

const READ = {
  name: 'read-balance',
  text: `
  select pack.state, pack.granted_seconds, pack.remaining_seconds,
         (extract(epoch from pack.expires_at) * 1000)::float8 as expires_ms,
         pack.expires_at <= clock_timestamp() + $2 * interval '1 millisecond' as is_over,
         (select coalesce(sum(held_seconds), 0)::int from credit_reservation
           where account_id = account.id and state = 'held' and expires_at > clock_timestamp() + $2 * interval '1 millisecond') as held_seconds
    from account left join trial_pack pack on pack.account_id = account.id
   where account.id = $1`,
};

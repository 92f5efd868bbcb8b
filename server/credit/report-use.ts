import { UniqueConstraintViolationException } from '@mikro-orm/postgresql';
import { ProblemError } from '../../shared/errors.ts';
import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { CreditEntry, type CreditOutcome } from '../database/entities/credit.ts';
import { lockAccount } from '../database/locks.ts';
import { uuidv7 } from '../database/uuid.ts';
import { enter } from './ledger.ts';
import { checkUsedAt, type LockedPack, lockPack } from './locked-pack.ts';
import { noteSpending } from './notices.ts';
import { CLOCK_SKEW_MS, NEARLY_USED_PARTS, outcomeOf, remainingOf, takeableSeconds } from './spending.ts';

export type SpendingDeps = { readonly db: Database; readonly clock: Clock };

/** Use by a session, as the runtime reports it. */
export type Use = {
  accountId: string;
  reportId: string;
  sessionId: string;
  seconds: number;
  usedAt: Date;
};

export type UseAnswer = { acceptedSeconds: number; remainingSeconds: number; outcome: CreditOutcome };

/**
 * Takes reported use from the credit of an account, as much as is free, and answers what was accepted and what
 * is left. The same report gives the same answer again, in whatever state the account is by then; another report
 * under the same id throws `report_id_reused`. Never takes what is not there, under any concurrency.
 *
 * Nearly every report is one statement that locks the pack alone. What else follows from a report (a notice, a
 * part that is not covered, a reservation that is over its time) costs a transaction behind the account's lock.
 */
export async function reportUse({ db, clock }: SpendingDeps, use: Use): Promise<UseAnswer> {
  const atOnce = await takeAtOnce(db, use, clock);
  if (atOnce) return atOnce;
  const earlier = await answered(db.orm.em.fork(), use);
  if (earlier) return earlier;
  try {
    return await takeCarefully(db, use, clock);
  } catch (error) {
    // Another account's pack is another lock, so the same id for both at once shows only here.
    if (!(error instanceof UniqueConstraintViolationException)) throw error;
    const simultaneous = await answered(db.orm.em.fork(), use);
    if (!simultaneous) throw error;
    return simultaneous;
  }
}

/** Null, and nothing written, unless the report is new, whole, valid and without consequences. */
async function takeAtOnce({ pool }: Database, use: Use, clock: Clock): Promise<UseAnswer | null> {
  const { accountId, sessionId, seconds, usedAt } = use;
  const { rows } = await pool.query<{ remaining_seconds: number }>({
    ...TAKE,
    values: [accountId, uuidv7(clock.now()), seconds, keyOf(use), sessionId, usedAt, aheadOf(clock)],
  });
  if (!rows[0]) return null;
  return { acceptedSeconds: seconds, remainingSeconds: rows[0].remaining_seconds, outcome: 'active' };
}

// The clock is read from the locked row, so after the wait for it: credit that ended meanwhile has ended. What is
// written is what the locked row led to and not a difference: PostgreSQL first applies a difference to the row as it
// was before the wait, and refuses the statement if the balance would have been below zero then.
const TAKE = {
  name: 'take-credit',
  text: `
  with pack as materialized (
    select * from trial_pack where account_id = $1 for no key update
  ), timed as materialized (
    select *, clock_timestamp() + $7 * interval '1 millisecond' as at from pack
  ), entry as (
    insert into credit_entry (id, account_id, position, kind, seconds, balance_seconds, report_key, session_id,
                              requested_seconds, used_at, outcome, created_at)
    select $2::uuid, $1, entry_count + 1, 'use', -$3::int, remaining_seconds - $3, $4, $5, $3, $6::timestamptz,
           'active', at
      from timed
     where state = 'active' and at < expires_at
       and $6 >= redeemed_at and $6 <= at + interval '${CLOCK_SKEW_MS} milliseconds'
       and remaining_seconds - held_seconds > $3
       and (nearly_used_at is not null or (remaining_seconds - $3) * ${NEARLY_USED_PARTS} > granted_seconds)
    on conflict (report_key) do nothing
    returning balance_seconds, position
  )
  update trial_pack
     set remaining_seconds = entry.balance_seconds, entry_count = entry.position
    from entry
   where trial_pack.account_id = $1
  returning trial_pack.remaining_seconds`,
};

/** Behind both locks, so that whatever follows from the report is in the same transaction. */
async function takeCarefully(db: Database, use: Use, clock: Clock): Promise<UseAnswer> {
  return await db.transactionOn(use.accountId, async (tx) => {
    await lockExisting(tx, use.accountId);
    const pack = await lockPack(tx, use.accountId, clock);
    return (await answered(tx, use)) ?? (await take(tx, pack, { ...use, reportKey: keyOf(use) }));
  });
}

/** Locks the account's row, which comes before the pack for all who need both. Throws `not-found`. */
export async function lockExisting(tx: Tx, accountId: string): Promise<void> {
  if ((await lockAccount(tx, accountId)) === null)
    throw new ProblemError('not-found', 'There is no such account.');
}

/** Enters use into the ledger, as much of it as can be taken, with everything that follows. */
export async function take(
  tx: Tx,
  pack: LockedPack,
  use: Pick<Use, 'sessionId' | 'seconds' | 'usedAt'> & { reportKey: string; ownSeconds?: number },
): Promise<UseAnswer> {
  const { sessionId, seconds, usedAt, reportKey, ownSeconds = 0 } = use;
  checkUsedAt(usedAt, pack);
  const acceptedSeconds = Math.min(seconds, takeableSeconds(pack, ownSeconds));
  const after = {
    ...pack,
    remainingSeconds: pack.remainingSeconds - acceptedSeconds,
    heldSeconds: pack.heldSeconds - ownSeconds,
  };
  const outcome = outcomeOf(after);
  const report = { sessionId, requestedSeconds: seconds, usedAt, outcome, reportKey };
  const entry = { accountId: pack.accountId, kind: 'use' as const, seconds: -acceptedSeconds, ...report };
  const balanceSeconds = await enter(tx, entry, pack.at);
  if (acceptedSeconds > 0) await noteSpending(tx, pack, { balanceSeconds, reportKey });
  return { acceptedSeconds, remainingSeconds: remainingOf(outcome, balanceSeconds), outcome };
}

/** The answer this report was given before, or null. Throws `report_id_reused` if it was another report. */
async function answered(tx: Tx, use: Use): Promise<UseAnswer | null> {
  const entry = await tx.findOne(CreditEntry, { reportKey: keyOf(use) });
  if (!entry) return null;
  const isSame =
    entry.accountId === use.accountId && entry.sessionId === use.sessionId && isSameUse(entry, use);
  if (isSame) return answerOf(entry);
  throw new ProblemError('conflict', 'This report_id was used for another report.', {
    code: 'report_id_reused',
  });
}

/** Whether an entry is about this much use at this moment. */
export function isSameUse(entry: CreditEntry, { seconds, usedAt }: Pick<Use, 'seconds' | 'usedAt'>): boolean {
  return entry.requestedSeconds === seconds && entry.usedAt?.getTime() === usedAt.getTime();
}

/** What was answered when the entry was made. */
export function answerOf({ outcome, seconds, balanceSeconds, reportKey }: CreditEntry): UseAnswer {
  if (!outcome) throw new Error(`The entry ${reportKey} is not about use`);
  return { acceptedSeconds: 0 - seconds, remainingSeconds: remainingOf(outcome, balanceSeconds), outcome };
}

const keyOf = ({ reportId }: Use): string => `use:${reportId}`;

import type { Database, Tx } from '../database/connection.ts';
import type { CreditEntry } from '../database/entities/credit.ts';
import { uuidv7 } from '../database/uuid.ts';

type NewEntry = Pick<CreditEntry, 'accountId' | 'kind' | 'seconds' | 'reportKey'> &
  Partial<Pick<CreditEntry, 'sessionId' | 'requestedSeconds' | 'usedAt' | 'outcome'>>;

/**
 * Adds one entry to the ledger and its seconds to the balance, in one statement, and returns the balance. Throws
 * if its fact is entered already: whoever changes a balance has locked the pack and looked, so a second entry
 * of one fact is a fault and not a repetition.
 */
export async function enter(tx: Tx, entry: NewEntry, now: Date): Promise<number> {
  const { accountId, kind, seconds, reportKey } = entry;
  const { sessionId = null, requestedSeconds = null, usedAt = null, outcome = null } = entry;
  const rows = await tx.execute<{ balance_seconds: number }[]>(ENTER, [
    seconds,
    accountId,
    uuidv7(now),
    accountId,
    kind,
    seconds,
    reportKey,
    sessionId,
    requestedSeconds,
    usedAt,
    outcome,
    now,
  ]);
  if (!rows[0]) throw new Error(`Account ${accountId} has no trial pack to enter ${kind} for`);
  return rows[0].balance_seconds;
}

const ENTER = `
  with pack as (
    update trial_pack
       set remaining_seconds = remaining_seconds + ?, entry_count = entry_count + 1
     where account_id = ?
    returning remaining_seconds, entry_count
  )
  insert into credit_entry (id, account_id, kind, seconds, report_key, session_id, requested_seconds, used_at,
                            outcome, created_at, position, balance_seconds)
  select ?, ?, ?, ?, ?, ?, ?::int, ?::timestamptz, ?, ?::timestamptz, entry_count, remaining_seconds from pack
  returning balance_seconds`;

/** Concurrent-seconds the account has used, ever. */
export async function spentSeconds(tx: Tx, accountId: string): Promise<number> {
  const rows = await tx.execute<{ spent: string }[]>(
    `select coalesce(-sum(seconds), 0) as spent from credit_entry where account_id = ? and kind = 'use'`,
    [accountId],
  );
  return Number(rows[0]?.spent ?? 0);
}

/** What does not add up in the ledger of one account. Seconds are concurrent-seconds. */
export type LedgerFault = {
  accountId: string;
  /** The first entry that does not follow from those before it; null where the entries are right in themselves. */
  position: number | null;
  balance: number;
  sumOfEntries: number;
  held: number;
  sumOfReservations: number;
};

/**
 * Proves of every account, or of one, that its entries are numbered without gaps, that each carries the sum of
 * all up to it, that their sum is the balance, and that what is held is what reservations hold. `[]` is the only
 * good answer. Each account is judged at one moment, and nobody is held up.
 */
export async function verifyLedger(
  { pool }: Pick<Database, 'pool'>,
  accountId: string | null = null,
): Promise<LedgerFault[]> {
  const faultsOf = async (ids: readonly string[]) => (await pool.query<LedgerFault>(FAULTS, [ids])).rows;
  if (accountId !== null) return await faultsOf([accountId]);
  const faults: LedgerFault[] = [];
  for (let after: string | undefined = NO_UUID; after !== undefined; ) {
    const { rows } = await pool.query<{ id: string }>(NEXT_PACKS, [after, PAGE]);
    const ids: string[] = rows.map(({ id }) => id);
    faults.push(...(await faultsOf(ids)));
    after = ids.length === PAGE ? ids.at(-1) : undefined;
  }
  return faults;
}

const PAGE = 1_000;
const NO_UUID = '00000000-0000-0000-0000-000000000000';

const NEXT_PACKS = `
  select account_id as id from trial_pack where account_id > $1 order by account_id limit $2`;

const FAULTS = `
  with summed as (
    select account_id, position, seconds,
           position is distinct from row_number() over entered
             or balance_seconds is distinct from sum(seconds) over entered as is_wrong
      from credit_entry
     where account_id = any($1)
    window entered as (partition by account_id order by position rows unbounded preceding)
  ), entries as (
    select account_id, sum(seconds) as seconds, count(*) as count, min(position) filter (where is_wrong) as wrong
      from summed group by account_id
  ), reservations as (
    select account_id, sum(held_seconds) as seconds
      from credit_reservation where state = 'held' and account_id = any($1)
     group by account_id
  )
  select account_id as "accountId", entries.wrong as "position",
         remaining_seconds as balance, coalesce(entries.seconds, 0)::float8 as "sumOfEntries",
         held_seconds as held, coalesce(reservations.seconds, 0)::float8 as "sumOfReservations"
    from trial_pack
    left join entries using (account_id)
    left join reservations using (account_id)
   where account_id = any($1)
     and (entries.wrong is not null
      or remaining_seconds <> coalesce(entries.seconds, 0)
      or entry_count <> coalesce(entries.count, 0)
      or held_seconds <> coalesce(reservations.seconds, 0))
   order by account_id`;

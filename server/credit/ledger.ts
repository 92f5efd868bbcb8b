import type { Database, Tx } from '../database/connection.ts';
import { CreditEntry } from '../database/entities/billing.ts';
import { uuidv7 } from '../database/uuid.ts';

type NewEntry = Pick<CreditEntry, 'accountId' | 'kind' | 'seconds' | 'reportKey'>;

/**
 * Adds one entry to the ledger. Throws if its fact is entered already: whoever changes a balance has just
 * read it under the account's lock, so a second entry of one fact is a fault and not a repetition.
 */
export async function enter(tx: Tx, entry: NewEntry, now: Date): Promise<void> {
  await tx.insert(CreditEntry, { id: uuidv7(now), ...entry, createdAt: now });
}

/** Concurrent-seconds the account has used, ever. */
export async function spentSeconds(tx: Tx, accountId: string): Promise<number> {
  const rows = await tx.execute<{ spent: string }[]>(
    `select coalesce(-sum(seconds), 0) as spent from credit_entry where account_id = ? and kind = 'use'`,
    [accountId],
  );
  return Number(rows[0]?.spent ?? 0);
}

/** Accounts whose entries do not add up to their balance: `[]` is the only good answer. */
export async function verifyLedger(db: Database): Promise<LedgerFault[]> {
  const { rows } = await db.pool.query<LedgerFault>(FAULTS);
  return rows;
}

/** Both in concurrent-seconds. */
export type LedgerFault = { accountId: string; balance: number; sumOfEntries: number };

const FAULTS = `
  select account_id as "accountId",
         coalesce(pack.remaining_seconds, 0)::float8 as balance,
         coalesce(entries.sum, 0)::float8 as "sumOfEntries"
    from trial_pack pack
    full join (select account_id, sum(seconds) from credit_entry group by account_id) entries
   using (account_id)
   where coalesce(pack.remaining_seconds, 0) <> coalesce(entries.sum, 0)
   order by account_id`;

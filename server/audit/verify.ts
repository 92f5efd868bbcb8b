import type { Database, Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { AuditEntry } from '../database/entities/journal.ts';
import { linkHash } from '../journal/chain.ts';

const PAGE = 500;

/**
 * Checks the account's audit log from its first entry to the end that the account's row remembers. Returns
 * the first position at which an entry was changed, taken out or put in, or null if the log is whole.
 */
export async function verifyChain(db: Database, accountId: string): Promise<number | null> {
  return await db.transaction((tx) => firstBroken(tx, accountId), { isolation: 'repeatable read' });
}

async function firstBroken(tx: Tx, accountId: string): Promise<number | null> {
  const account = await tx.findOneOrFail(Account, { id: accountId });
  let position = 0;
  let hash: Buffer | null = null;
  for await (const entry of entries(tx, accountId)) {
    const expected = position + 1;
    const follows = entry.position === expected && same(entry.prevHash ?? null, hash);
    if (!follows || !linkHash(entry).equals(entry.hash)) return expected;
    position = entry.position;
    hash = entry.hash;
  }
  if (position < account.auditPosition) return position + 1;
  if (position > account.auditPosition) return account.auditPosition + 1;
  return same(account.auditHash ?? null, hash) ? null : position;
}

async function* entries(tx: Tx, accountId: string): AsyncGenerator<AuditEntry> {
  let after = 0;
  for (;;) {
    const page = await tx.find(
      AuditEntry,
      { accountId, position: { $gt: after } },
      { orderBy: { position: 'asc' }, limit: PAGE, disableIdentityMap: true },
    );
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < PAGE) return;
    after = last.position;
  }
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

import type { Tx } from './connection.ts';
import { Account } from './entities/account.ts';
import { TrialPack } from './entities/billing.ts';

/*
 * `for no key update`, because nobody changes the keys of these rows: MikroORM's pessimistic write is
 * `for update`, which also waits for, and holds up, every row that refers to the locked one. PostgreSQL looks
 * a reference up again when a row is changed twice in one transaction, so whoever held the pack and changed it
 * twice waited for the account, while the account's owner waited for the pack.
 */

/** The account, which nobody else can change until the transaction ends, as it is then; null if there is none. */
export async function lockAccount(tx: Tx, id: string): Promise<Account | null> {
  const row = await locked(tx, 'select * from account where id = ? for no key update', id);
  return row && tx.map(Account, row);
}

/** The account's trial pack, locked likewise. Whoever needs the account as well locks that first. */
export async function lockTrialPack(tx: Tx, accountId: string): Promise<TrialPack | null> {
  const row = await locked(tx, 'select * from trial_pack where account_id = ? for no key update', accountId);
  return row && tx.map(TrialPack, row);
}

async function locked(tx: Tx, statement: string, key: string): Promise<object | null> {
  // What is read takes the place of what the entity manager remembers, so changes are written first.
  await tx.flush();
  const [row] = await tx.execute<object[]>(statement, [key]);
  return row ?? null;
}

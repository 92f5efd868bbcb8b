import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { type Actor, append } from '../audit/append.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { uuidv7 } from '../database/uuid.ts';
import { emailSchema } from '../notify/address.ts';

/**
 * Opens an account and returns its uuid. Throws `validation-failed` for an address that is none and `conflict`
 * with code `email_taken` for one that is in use; case makes no difference.
 */
export async function createAccount(
  tx: Tx,
  { email, now, actor = { type: 'system' } }: { email: string; now: Date; actor?: Actor },
): Promise<{ id: string; email: string }> {
  const address = readAddress(email);
  const id = uuidv7(now);
  const inserted = await tx
    .createQueryBuilder(Account)
    .insert({ id, email: address, createdAt: now })
    .onConflict('email')
    .ignore()
    .returning('id')
    .execute('all');
  if (inserted.length === 0) throw emailTaken();
  await append(tx, {
    accountId: id,
    action: 'account.created',
    targetResourceId: formatId('acc', id),
    payload: {},
    actor,
    dedupeKey: `account_created:${id}`,
    now,
  });
  return { id, email: address };
}

/** The address as accounts have it, in lower case. Throws `validation-failed` for one that is none. */
export function readAddress(email: string): string {
  const address = emailSchema.safeParse(email);
  if (address.success) return address.data;
  const message = 'must be an e-mail address such as ada@example.com';
  throw new ProblemError('validation-failed', `email ${message}.`, { errors: [{ field: 'email', message }] });
}

export const emailTaken = () =>
  new ProblemError('conflict', 'There is already an account with this e-mail address.', {
    code: 'email_taken',
  });

/** The account with an address, in whatever case. Throws `not-found`. */
export async function findAccount(db: Database, email: string): Promise<Account> {
  const account = await db.orm.em.fork().findOne(Account, { email: email.trim().toLowerCase() });
  if (!account) throw new ProblemError('not-found', 'There is no account with this e-mail address.');
  return account;
}

/** All accounts, newest first. */
export async function listAccounts(db: Database): Promise<Account[]> {
  return await db.orm.em.fork().find(Account, {}, { orderBy: { createdAt: 'desc', id: 'desc' } });
}

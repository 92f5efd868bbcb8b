import { parseId } from '../../shared/ids.ts';
import { findAccount } from '../billing/accounts.ts';
import type { Database } from '../database/connection.ts';
import { UsageError } from './command.ts';
import { ACCOUNT } from './words.ts';

/**
 * Reads a word that names an account, and answers what finds its uuid. Throws a UsageError at once for a word that
 * is neither id nor address; looking for an address throws `not-found`.
 */
export function accountNamed(word: string): (db: Database) => Promise<string> {
  const id = parseId('acc', word);
  if (id === null && !word.includes('@'))
    throw new UsageError(`${ACCOUNT} must be acc_ and a uuid, or an e-mail address`);
  return async (db) => id ?? (await findAccount(db, word)).id;
}

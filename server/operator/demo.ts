import { formatId } from '../../shared/ids.ts';
import { createAccount } from '../billing/accounts.ts';
import { issueKey, listKeys, revokeKey } from '../billing/keys.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';

const DEMO_EMAIL = 'demo@driftstack.test';
const DEMO_KEY_NAME = 'demo, issued at start';
/** A key copied into a newcomer's notes goes on working for this many starts more. */
const KEPT_KEYS = 10;

export interface Demo {
  readonly accountId: string;
  readonly email: string;
  readonly apiKey: string;
}

/**
 * The account a newcomer starts with, opened on the first start, and a fresh key for it: keys are kept as
 * hashes only, so the one of the last start cannot be shown again. It goes on working all the same.
 */
export async function openDemoAccount(db: Database, now: Date): Promise<Demo> {
  const issued = await db.transaction(async (tx) => {
    const known = await tx.findOne(Account, { email: DEMO_EMAIL });
    const { id } = known ?? (await createAccount(tx, { email: DEMO_EMAIL, now }));
    const { key } = await issueKey(tx, {
      accountId: id,
      scopes: ['account_owner'],
      name: DEMO_KEY_NAME,
      now,
    });
    return { id, key };
  });
  const keys = (await listKeys(db, issued.id)).filter(
    (key) => key.name === DEMO_KEY_NAME && key.revokedAt === null,
  );
  for (const { id } of keys.slice(KEPT_KEYS)) await db.transaction((tx) => revokeKey(tx, { keyId: id, now }));
  return { accountId: formatId('acc', issued.id), email: DEMO_EMAIL, apiKey: issued.key };
}

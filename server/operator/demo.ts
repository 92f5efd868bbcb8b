import { existsSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatId } from '../../shared/ids.ts';
import { createAccount } from '../billing/accounts.ts';
import { hashKey } from '../billing/caller.ts';
import { issueKey, listKeys, revokeKey } from '../billing/keys.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account, ApiKey } from '../database/entities/account.ts';

const DEMO_EMAIL = 'demo@driftstack.test';
const DEMO_KEY_NAME = 'demo, issued at start';

export interface Demo {
  readonly accountId: string;
  readonly email: string;
  readonly apiKey: string;
}

/**
 * The account a newcomer starts with, opened on the first start, and its key: the one of the last start, which a
 * file beside the database keeps for this user alone, because the database keeps hashes only. It stays that account
 * whatever its address has become. Where the file is gone or the key was revoked, a new key takes the place of those
 * that earlier starts issued.
 */
export async function openDemoAccount(
  db: Database,
  { dataDir, now }: { dataDir: string; now: Date },
): Promise<Demo> {
  const path = join(dataDir, 'demo-key');
  const kept = existsSync(path) ? (await readFile(path, 'utf8')).trim() : null;
  const opened = kept === null ? null : await openedBy(db, kept);
  if (kept !== null && opened?.good) return demoOf(opened.account, kept);
  const { account, key, keyId } = await db.transaction(async (tx) => {
    const known = opened?.account ?? (await lastIssuedTo(tx));
    const account = known ?? (await createAccount(tx, { email: DEMO_EMAIL, now }));
    const { key, id: keyId } = await issueKey(tx, {
      accountId: account.id,
      scopes: ['account_owner'],
      name: DEMO_KEY_NAME,
      now,
    });
    return { account, key, keyId };
  });
  await writeFile(path, key, { mode: 0o600 });
  await chmod(path, 0o600);
  const others = (await listKeys(db, account.id)).filter(
    (other) => other.id !== keyId && other.name === DEMO_KEY_NAME && other.revokedAt === null,
  );
  for (const { id } of others) await db.transaction((tx) => revokeKey(tx, { keyId: id, now }));
  return demoOf(account, key);
}

type Known = Pick<Account, 'id' | 'email'>;

function demoOf({ id, email }: Known, apiKey: string): Demo {
  return { accountId: formatId('acc', id), email, apiKey };
}

/** The account that the key in the file was issued for at a start, and whether it still opens it. */
async function openedBy(db: Database, apiKey: string): Promise<{ account: Known; good: boolean } | null> {
  const em = db.orm.em.fork();
  const key = await em.findOne(ApiKey, { hash: hashKey(apiKey), name: DEMO_KEY_NAME });
  const account = key && (await em.findOne(Account, { id: key.accountId }));
  return account && { account, good: key.revokedAt === null };
}

/** The account whose demo key was issued last, else one that somebody opened at the demo address. */
async function lastIssuedTo(tx: Tx): Promise<Known | null> {
  const key = await tx.findOne(ApiKey, { name: DEMO_KEY_NAME }, { orderBy: { createdAt: 'desc' } });
  return await tx.findOne(Account, key ? { id: key.accountId } : { email: DEMO_EMAIL });
}

import { existsSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatId } from '../../shared/ids.ts';
import { createAccount } from '../billing/accounts.ts';
import { hashKey, issueKey, listKeys, revokeKey } from '../billing/keys.ts';
import type { Database } from '../database/connection.ts';
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
 * file beside the database keeps for this user alone, because the database keeps hashes only. Where that is gone or
 * the key was revoked, a new one takes the place of those that earlier starts issued.
 */
export async function openDemoAccount(
  db: Database,
  { dataDir, now }: { dataDir: string; now: Date },
): Promise<Demo> {
  const path = join(dataDir, 'demo-key');
  const kept = await stillGood(db, path);
  if (kept !== null) return kept;
  const issued = await db.transaction(async (tx) => {
    const known = await tx.findOne(Account, { email: DEMO_EMAIL });
    const { id } = known ?? (await createAccount(tx, { email: DEMO_EMAIL, now }));
    const { key, id: keyId } = await issueKey(tx, {
      accountId: id,
      scopes: ['account_owner'],
      name: DEMO_KEY_NAME,
      now,
    });
    return { id, key, keyId };
  });
  await writeFile(path, issued.key, { mode: 0o600 });
  await chmod(path, 0o600);
  const others = (await listKeys(db, issued.id)).filter(
    (key) => key.id !== issued.keyId && key.name === DEMO_KEY_NAME && key.revokedAt === null,
  );
  for (const { id } of others) await db.transaction((tx) => revokeKey(tx, { keyId: id, now }));
  return { accountId: formatId('acc', issued.id), email: DEMO_EMAIL, apiKey: issued.key };
}

/** The demo account with the key in the file, if that key opens it. */
async function stillGood(db: Database, path: string): Promise<Demo | null> {
  if (!existsSync(path)) return null;
  const apiKey = (await readFile(path, 'utf8')).trim();
  const em = db.orm.em.fork();
  const key = await em.findOne(ApiKey, { hash: hashKey(apiKey), revokedAt: null });
  const account = key && (await em.findOne(Account, { id: key.accountId, email: DEMO_EMAIL }));
  return account && { accountId: formatId('acc', account.id), email: DEMO_EMAIL, apiKey };
}

import { createAccount } from '../../../server/billing/accounts.ts';
import { issueKey } from '../../../server/billing/keys.ts';
import type { Database } from '../../../server/database/connection.ts';

/** Keys of so many new accounts: together they may call that many times as often as one. */
export async function openCallers(db: Database, accounts: number, name = 'caller'): Promise<string[]> {
  const keys: string[] = [];
  for (let n = 0; n < accounts; n += 1) {
    const key = await db.transaction(async (tx) => {
      const now = new Date();
      const { id } = await createAccount(tx, { email: `${name}-${n}@driftstack.test`, now });
      return (await issueKey(tx, { accountId: id, scopes: ['account_owner'], name, now })).key;
    });
    keys.push(key);
  }
  return keys;
}

export type Answer = { status: number; retryAfter: string | null; tookMs: number };

/** Reads an account's billing; throws only if there is no answer at all. */
export async function read(url: string, key: string): Promise<Answer> {
  const began = performance.now();
  const response = await fetch(`${url}/v1/billing`, { headers: { authorization: `Bearer ${key}` } });
  await response.arrayBuffer();
  const { status, headers } = response;
  return { status, retryAfter: headers.get('retry-after'), tookMs: performance.now() - began };
}

import { randomBytes } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import type { Scope } from '../../shared/scopes.ts';
import { type Actor, append } from '../audit/append.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account, ApiKey } from '../database/entities/account.ts';
import { lockAccount } from '../database/locks.ts';
import { uuidv7 } from '../database/uuid.ts';
import { hashKey, KEY_START } from './caller.ts';

const SECRET_BYTES = 32;
const SHOWN_CHARACTERS = KEY_START.length + 4;

export type NewKey = {
  accountId: string;
  scopes: readonly Scope[];
  name: string;
  now: Date;
  expiresAt?: Date | null;
  actor?: Actor;
  secret?: Uint8Array;
};

export type IssuedKey = {
  /** The only time the key is seen in full. */
  key: string;
  /** The uuid of the key. */
  id: string;
  prefix: string;
};

/** Issues a key for an account and returns it in full, once. Throws `not-found` for an unknown account. */
export async function issueKey(
  tx: Tx,
  {
    accountId,
    scopes,
    name,
    now,
    expiresAt = null,
    actor = { type: 'system' },
    secret = randomBytes(SECRET_BYTES),
  }: NewKey,
): Promise<IssuedKey> {
  if ((await tx.count(Account, { id: accountId })) === 0) {
    throw new ProblemError('not-found', 'There is no such account.');
  }
  const key = `${KEY_START}${Buffer.from(secret).toString('base64url')}`;
  const id = uuidv7(now);
  const prefix = key.slice(0, SHOWN_CHARACTERS);
  await tx.insert(ApiKey, {
    id,
    accountId,
    hash: hashKey(key),
    prefix,
    scopes: [...scopes],
    name,
    createdAt: now,
    expiresAt,
  });
  await append(tx, {
    accountId,
    action: 'api_key.minted',
    targetResourceId: formatId('key', id),
    payload: { name, prefix, scopes },
    actor,
    dedupeKey: `api_key_minted:${id}`,
    now,
  });
  return { key, id, prefix };
}

export type ListedKey = Pick<
  ApiKey,
  'id' | 'prefix' | 'name' | 'scopes' | 'createdAt' | 'expiresAt' | 'revokedAt'
>;

/** All keys of an account, newest first, without anything that could be used as one. */
export async function listKeys(db: Database, accountId: string): Promise<ListedKey[]> {
  return await db.orm.em.fork().find(
    ApiKey,
    { accountId },
    {
      fields: ['id', 'prefix', 'name', 'scopes', 'createdAt', 'expiresAt', 'revokedAt'],
      orderBy: { createdAt: 'desc', id: 'desc' },
    },
  );
}

/** Revokes a key for good; false if it had been revoked before. Throws `not-found` for an unknown key. */
export async function revokeKey(
  tx: Tx,
  { keyId, now, actor = { type: 'system' } }: { keyId: string; now: Date; actor?: Actor },
): Promise<boolean> {
  const key = await tx.findOne(ApiKey, { id: keyId });
  if (!key) throw new ProblemError('not-found', 'There is no such API key.');
  await lockAccount(tx, key.accountId);
  const changed = await tx.nativeUpdate(ApiKey, { id: keyId, revokedAt: null }, { revokedAt: now });
  if (changed === 0) return false;
  await append(tx, {
    accountId: key.accountId,
    action: 'api_key.revoked',
    targetResourceId: formatId('key', keyId),
    payload: { name: key.name, prefix: key.prefix },
    actor,
    dedupeKey: `api_key_revoked:${keyId}`,
    now,
  });
  return true;
}

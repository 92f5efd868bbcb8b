import { hash } from 'node:crypto';
import type { Tier } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import { SCOPES, type Scope } from '../../shared/scopes.ts';
import type { Database } from '../database/connection.ts';
import { type Fields, readByPlace } from '../database/read-by-place.ts';
import { BILLING_COLUMNS, BILLING_WIDTH, type BillingRow, billingRow, entitledTier } from './state.ts';

/** What every key begins with. */
export const KEY_START = 'ds_live_';

/** SHA-256 of the whole text of a key: all that is kept of it, and how it is found again. */
export function hashKey(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}

/** Who calls, and what the account has bought: read together, because reading it is most of what is called. */
export type Caller = {
  /** A uuid, as are all ids inside. */
  readonly accountId: string;
  readonly keyId: string;
  readonly scopes: readonly Scope[];
  /** `free` unless a subscription entitles the account to more. */
  readonly tier: Tier | 'free';
  /** For `billingRow`. */
  readonly bought: Fields;
};

/**
 * Finds the caller by the values of all Authorization headers sent, in one prepared statement. Nothing is
 * remembered between calls, so a revoked key is refused at once. Throws the four kinds of 401.
 */
export async function authenticate(
  db: Pick<Database, 'pool'>,
  authorization: readonly string[],
  now: Date,
): Promise<Caller> {
  const key = bearerToken(authorization);
  const [fields] = key.startsWith(KEY_START) ? await readByPlace(db.pool, READ_CALLER, [hashKey(key)]) : [];
  if (!fields)
    throw new ProblemError('invalid-key', 'This API key does not exist. Check that it is complete.');
  const [keyId, accountId, scopes, revoked, expires] = fields.slice(BILLING_WIDTH);
  if (!keyId || !accountId || typeof scopes !== 'string') throw new Error('read-caller reads other columns');
  if (revoked === 't') throw new ProblemError('revoked-key', 'This API key was revoked. Use another one.');
  if (typeof expires === 'string' && Number(expires) <= now.getTime()) {
    throw new ProblemError('expired-key', 'This API key has expired. Use another one.');
  }
  return { accountId, keyId, scopes: parseScopes(scopes), tier: entitledTier(fields), bought: fields };
}

/** Reads the purchases of an account anew, for answers that follow a change. Throws `not-found`. */
export async function readBilling({ pool }: Pick<Database, 'pool'>, accountId: string): Promise<BillingRow> {
  const [fields] = await readByPlace(pool, READ_BILLING, [accountId]);
  if (!fields) throw new ProblemError('not-found', 'There is no such account.');
  return billingRow(fields);
}

const BEARER = /^Bearer +([\w\-.~+/]{1,256}=*)$/i;

function bearerToken(authorization: readonly string[]): string {
  const [header, second] = authorization;
  if (header === undefined) throw unauthorized('Send your API key as "Authorization: Bearer ds_live_…".');
  if (second !== undefined) throw unauthorized('Send one Authorization header, not several.');
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) throw unauthorized('The Authorization header must read "Bearer ds_live_…".');
  return token;
}

const unauthorized = (detail: string) => new ProblemError('unauthorized', detail);

/** By the unique index of the hash, and the two of the account's purchases. */
export const READ_CALLER = {
  name: 'read-caller',
  text: `select ${BILLING_COLUMNS},
  k.id, k.account_id, array_to_string(k.scopes, ' '), k.revoked_at is not null,
  (extract(epoch from k.expires_at) * 1000)::float8
from api_key k
left join subscription s on s.account_id = k.account_id
left join trial_pack t on t.account_id = k.account_id
where k.hash = $1`,
};

export const READ_BILLING = {
  name: 'read-billing',
  text: `select ${BILLING_COLUMNS}
from account a
left join subscription s on s.account_id = a.id
left join trial_pack t on t.account_id = a.id
where a.id = $1`,
};

const KNOWN: ReadonlySet<string> = new Set(SCOPES);
const isScope = (text: string): text is Scope => KNOWN.has(text);

/** A scope written by a newer version of this service means nothing to us yet. */
function parseScopes(text: string): Scope[] {
  return text.split(' ').filter(isScope);
}

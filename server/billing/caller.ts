import type { Tier } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import { SCOPES, type Scope } from '../../shared/scopes.ts';
import type { Database } from '../database/connection.ts';
import { hashKey } from './keys.ts';
import { BILLING_COLUMNS, type BillingRow } from './state.ts';

/** Who calls, and what the account has bought: read together, because reading it is most of what is called. */
export type Caller = {
  /** A uuid, as are all ids inside. */
  readonly accountId: string;
  readonly keyId: string;
  readonly scopes: readonly Scope[];
  /** `free` unless a subscription entitles the account to more. */
  readonly tier: Tier | 'free';
  readonly row: BillingRow;
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
  const row = key.startsWith(KEY_START) ? await readCaller(db, hashKey(key)) : null;
  if (!row) throw new ProblemError('invalid-key', 'This API key does not exist. Check that it is complete.');
  if (row.revoked) throw new ProblemError('revoked-key', 'This API key was revoked. Use another one.');
  if (row.expires_ms !== null && row.expires_ms <= now.getTime()) {
    throw new ProblemError('expired-key', 'This API key has expired. Use another one.');
  }
  return {
    accountId: row.account_id,
    keyId: row.key_id,
    scopes: parseScopes(row.scopes),
    tier: row.subscription_id !== null && row.entitled ? row.tier : 'free',
    row,
  };
}

/** Reads the purchases of an account anew, for answers that follow a change. Throws `not-found`. */
export async function readBilling({ pool }: Pick<Database, 'pool'>, accountId: string): Promise<BillingRow> {
  const { rows } = await pool.query<BillingRow>({ ...READ_BILLING, values: [accountId] });
  if (!rows[0]) throw new ProblemError('not-found', 'There is no such account.');
  return rows[0];
}

const KEY_START = 'ds_live_';
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

type CallerRow = BillingRow & {
  key_id: string;
  account_id: string;
  scopes: string;
  revoked: boolean;
  expires_ms: number | null;
};

const READ_CALLER = {
  name: 'read-caller',
  text: `select k.id as key_id, k.account_id, array_to_string(k.scopes, ' ') as scopes,
  k.revoked_at is not null as revoked, (extract(epoch from k.expires_at) * 1000)::float8 as expires_ms,
  ${BILLING_COLUMNS}
from api_key k
left join subscription s on s.account_id = k.account_id
left join trial_pack t on t.account_id = k.account_id
where k.hash = $1`,
};

const READ_BILLING = {
  name: 'read-billing',
  text: `select ${BILLING_COLUMNS}
from account a
left join subscription s on s.account_id = a.id
left join trial_pack t on t.account_id = a.id
where a.id = $1`,
};

async function readCaller({ pool }: Pick<Database, 'pool'>, hash: Buffer): Promise<CallerRow | null> {
  const { rows } = await pool.query<CallerRow>({ ...READ_CALLER, values: [hash] });
  return rows[0] ?? null;
}

const KNOWN: ReadonlySet<string> = new Set(SCOPES);
const isScope = (text: string): text is Scope => KNOWN.has(text);

/** A scope written by a newer version of this service means nothing to us yet. */
function parseScopes(text: string): Scope[] {
  return text.split(' ').filter(isScope);
}

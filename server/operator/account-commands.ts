import { ProblemError } from '../../shared/errors.ts';
import { formatId, parseId } from '../../shared/ids.ts';
import { SCOPES, type Scope } from '../../shared/scopes.ts';
import { isMoment, toWireTime } from '../../shared/time.ts';
import { createAccount, listAccounts } from '../billing/accounts.ts';
import { changeEmail } from '../billing/change-email.ts';
import { issueKey, listKeys, revokeKey } from '../billing/keys.ts';
import { accountNamed } from './account-word.ts';
import { type CommandContext, type Given, UsageError } from './command.ts';
import { withDatabase } from './database.ts';
import { reachStripe } from './stripe.ts';
import { ACCOUNT } from './words.ts';

const STAFF = { type: 'staff' } as const;
const STRIPE_MS = 20_000;

/** `accounts create`: what `commands.ts` says of it. */
export async function accountsCreate(
  { config, now, say, answer }: CommandContext,
  given: Given,
): Promise<void> {
  const scopes = scopesOf(given);
  const created = await withDatabase(config, (db) =>
    db.transaction(async (tx) => {
      const at = now();
      const account = await createAccount(tx, { email: given.required('email'), now: at, actor: STAFF });
      const key = await issueKey(tx, {
        accountId: account.id,
        scopes,
        name: 'first key',
        now: at,
        actor: STAFF,
      });
      return { account, key };
    }),
  );
  const accountId = formatId('acc', created.account.id);
  say(`Account ${accountId} for ${created.account.email}`);
  say(`API key, shown this once: ${created.key.key}`);
  answer({
    account_id: accountId,
    email: created.account.email,
    api_key: created.key.key,
    api_key_id: formatId('key', created.key.id),
    scopes,
  });
}

/** `accounts list`: what `commands.ts` says of it. */
export async function accountsList({ config, say, answer }: CommandContext): Promise<void> {
  const accounts = await withDatabase(config, listAccounts);
  const rows = accounts.map((account) => ({
    account_id: formatId('acc', account.id),
    email: account.email,
    stripe_customer_id: account.stripeCustomerId,
    created_at: toWireTime(account.createdAt),
  }));
  for (const row of rows)
    say(`${row.account_id}  ${row.created_at}  ${row.stripe_customer_id ?? '-'}  ${row.email}`);
  if (rows.length === 0) say('There are no accounts yet: accounts create --email ADDRESS');
  answer({ data: rows });
}

/** `accounts set-email`: what `commands.ts` says of it. */
export async function accountsSetEmail(
  { config, now, say, answer }: CommandContext,
  given: Given,
): Promise<void> {
  const email = given.required('email');
  const account = accountNamed(given.word(ACCOUNT));
  const changed = await withDatabase(config, async (db) => {
    const accountId = await account(db);
    const stripe = reachStripe(config).within(STRIPE_MS, 'person');
    return { accountId, ...(await changeEmail({ db, clock: { now }, stripe }, accountId, email)) };
  });
  const { accountId, from, to } = changed;
  say(from === to ? `${to} was its address before.` : `${from} is now ${to}; the old address is told.`);
  answer({ account_id: formatId('acc', accountId), email: to, email_before: from });
}

/** `keys issue`: what `commands.ts` says of it. */
export async function keysIssue({ config, now, say, answer }: CommandContext, given: Given): Promise<void> {
  const account = accountNamed(given.word(ACCOUNT));
  const scopes = scopesOf(given);
  const name = given.option('name') ?? 'issued by cli';
  if (name.trim() === '') throw new UsageError('--name is empty');
  const at = now();
  const expiresAt = expiryOf(given, at);
  const { accountId, key } = await withDatabase(config, async (db) => {
    const accountId = await account(db);
    const key = await db.transaction((tx) =>
      issueKey(tx, { accountId, scopes, name, now: at, expiresAt, actor: STAFF }),
    );
    return { accountId, key };
  });
  say(`API key ${formatId('key', key.id)}, shown this once: ${key.key}`);
  answer({
    account_id: formatId('acc', accountId),
    api_key: key.key,
    api_key_id: formatId('key', key.id),
    scopes,
  });
}

/** `keys list`: what `commands.ts` says of it. */
export async function keysList({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const account = accountNamed(given.word(ACCOUNT));
  const keys = await withDatabase(config, async (db) => listKeys(db, await account(db)));
  const rows = keys.map((key) => ({
    api_key_id: formatId('key', key.id),
    prefix: key.prefix,
    name: key.name,
    scopes: key.scopes,
    created_at: toWireTime(key.createdAt),
    expires_at: key.expiresAt && toWireTime(key.expiresAt),
    revoked_at: key.revokedAt && toWireTime(key.revokedAt),
  }));
  for (const row of rows) {
    const end = row.revoked_at
      ? `revoked ${row.revoked_at}`
      : row.expires_at
        ? `until ${row.expires_at}`
        : 'active';
    say(`${row.api_key_id}  ${row.prefix}…  ${end}  ${row.scopes.join(',')}  ${row.name}`);
  }
  if (rows.length === 0) say('This account has no API keys.');
  answer({ data: rows });
}

/** `keys revoke`: what `commands.ts` says of it. */
export async function keysRevoke({ config, now, say, answer }: CommandContext, given: Given): Promise<void> {
  const keyId = parseId('key', given.word('KEY_ID'));
  if (keyId === null) throw new UsageError('KEY_ID must be key_ and a uuid');
  const revoked = await withDatabase(config, (db) =>
    db.transaction((tx) => revokeKey(tx, { keyId, now: now(), actor: STAFF })),
  );
  say(revoked ? 'Revoked.' : 'It had been revoked before.');
  answer({ api_key_id: formatId('key', keyId), revoked_now: revoked });
}

function scopesOf(given: Given): Scope[] {
  const names = (given.option('scopes') ?? 'account_owner').split(',').map((name) => name.trim());
  return names.map((name) => {
    const scope = SCOPES.find((known) => known === name);
    if (scope === undefined) throw new UsageError(`--scopes: ${name} is not one of ${SCOPES.join(', ')}`);
    return scope;
  });
}

function expiryOf(given: Given, now: Date): Date | null {
  const text = given.option('expires-at');
  if (text === undefined) return null;
  if (!isMoment(text))
    throw new UsageError('--expires-at must be a moment in UTC such as 2027-01-31T00:00:00Z');
  const time = new Date(text);
  if (time <= now) throw new ProblemError('validation-failed', '--expires-at is in the past.');
  return time;
}

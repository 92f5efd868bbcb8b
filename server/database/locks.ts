import type { Tx } from './connection.ts';
import { Account } from './entities/account.ts';
import { TrialPack } from './entities/billing.ts';
import { run, type Statement } from './statement.ts';

/*
 * One order of locks, everywhere, so that no two transactions ever wait for each other:
 *
 *   1. the account
 *   2. its other rows, a table after the other in this order:
 *      idempotency_key, api_key, webhook_endpoint (several in the order of ids), webhook_delivery (by position),
 *      subscription, trial_pack, credit_reservation, credit_entry, checkout_attempt, audit_entry, billing_event,
 *      email, stripe_event, account_sync
 *   3. price, which belongs to everybody, when nothing is left to be waited for
 *
 * Behind the account's lock the second step has no competitors but those who lock one table only, so its order
 * matters to nobody else; the first step is what matters. Whoever needs no account locks one row, or rows in order:
 *
 *   who                                            locks
 *   pass over an account (stripe/sync/pass.ts)          account, subscription, trial_pack, checkout_attempt, audit_entry,
 *                                                  billing_event, webhook_endpoint, email, stripe_event,
 *                                                  account_sync, price; Stripe is never asked meanwhile. Several
 *                                                  accounts at once: those locked by others are passed over,
 *                                                  account_sync and price in the order of ids
 *   minting: before Stripe (turn.ts)               account, idempotency_key, checkout_attempt: one statement
 *   minting: after it (turn.ts)                    account, checkout_attempt, audit_entry, idempotency_key: one more
 *   customer made (customer.ts)                    account, audit_entry: one statement
 *   customer let go                                account, checkout_attempt, audit_entry
 *   any other POST under a key (once.ts)           account, idempotency_key, what the call itself locks
 *   portal                                         idempotency_key alone; then account, audit_entry, idempotency_key:
 *                                                  two statements
 *   keys issued and revoked                        account, api_key, audit_entry
 *   endpoints, replays, pauses (webhooks)          account, webhook_endpoint, webhook_delivery, audit_entry, email
 *   deliveries claimed, settled, released          webhook_endpoint, webhook_delivery; never the account
 *   leases taken and renewed                       webhook_endpoint, account_sync or stripe_event, passing over
 *                                                  what is locked
 *   credit spent with consequences, expired        account, trial_pack, credit_reservation, credit_entry, email
 *   credit spent at once, reserved, released       trial_pack, credit_reservation or credit_entry; never the account
 *   event replayed                                 account, audit_entry, stripe_event, account_sync
 *   event stored, event assigned to its account    stripe_event, account_sync (several in the order of ids)
 *   account that could not be looked at            stripe_event, account_sync
 *   event counted as failed, set aside             stripe_event, one row
 *   mail sent                                      email, one row
 *
 * `test/integration/lock-order.test.ts` watches the statements of all of them.
 *
 * `for no key update`, because nobody changes the keys of these rows: MikroORM's pessimistic write is `for update`,
 * which also waits for, and holds up, every row that refers to the locked one. PostgreSQL looks a reference up again
 * when a row is changed twice in one transaction, so whoever held the pack and changed it twice waited for the
 * account, while the account's owner waited for the pack.
 */

/** The account, which nobody else can change until the transaction ends, as it is then; null if there is none. */
export async function lockAccount(tx: Tx, id: string): Promise<Account | null> {
  const row = await locked(tx, 'select * from account where id = ? for no key update', [id]);
  if (row === null) return null;
  noteHeld(tx, id);
  return tx.map(Account, row);
}

/** The accounts that each open transaction has locked; a lock lasts until its end. */
const held = new WeakMap<Tx, Set<string>>();

/** For whoever locks an account by a statement of its own. */
export function noteHeld(tx: Tx, accountId: string): void {
  const ids = held.get(tx) ?? new Set();
  held.set(tx, ids.add(accountId));
}

const HOLD: Statement = {
  name: 'hold-account',
  text: 'select 1 as held from account where id = $1 for no key update',
};

/** Locks the account, unless this transaction has done so already. */
export async function holdAccount(tx: Tx, accountId: string): Promise<void> {
  if (held.get(tx)?.has(accountId)) return;
  const rows = await run(tx, HOLD, [accountId]);
  if (rows.length === 0) throw new Error(`Account ${accountId} is not in the database`);
  noteHeld(tx, accountId);
}

/** What a pass needs to know of an account that it has locked. */
export type LockedAccount = {
  readonly id: string;
  email: string;
  readonly stripeCustomerId: string | null;
  stripeEmail: string | null;
  readonly stripeCustomerGeneration: number;
  readonly auditPosition: number;
};

/** `heldVersion`: the version of its subscription row; null where it has none. */
export type Leased = { readonly account: LockedAccount; readonly heldVersion: number | null };

type LeasedRow = LockedAccount & Pick<Leased, 'heldVersion'>;

/**
 * Locks accounts that are worked on, each under its lease, and answers by id. One that somebody else has the lease of
 * by now is left out. So is one whose row is locked at the moment, unless `waits`: nobody waits for it then. Whoever
 * writes proves at the end once more that the leases are still theirs, as a lease is looked at as it was when the lock
 * was asked for.
 */
export async function lockLeasedAccounts(
  tx: Tx,
  leases: readonly { readonly accountId: string; readonly lease: string }[],
  { waits }: { waits: boolean },
): Promise<ReadonlyMap<string, Leased>> {
  const values = [leases.map(({ accountId }) => accountId), leases.map(({ lease }) => lease)];
  const rows = await run<LeasedRow>(tx, waits ? LOCK_LEASED : LOCK_LEASED_AND_FREE, values);
  for (const { id } of rows) noteHeld(tx, id);
  return new Map(rows.map(({ heldVersion, ...account }) => [account.id, { account, heldVersion }]));
}

/** What is asked for stands apart, so that PostgreSQL makes one plan for all calls. */
const LEASED = `with asked as materialized (select $1::uuid[] as accounts, $2::uuid[] as leases)
select a.id, a.email, a.stripe_customer_id as "stripeCustomerId", a.stripe_email as "stripeEmail",
  a.stripe_customer_generation as "stripeCustomerGeneration", a.audit_position::float8 as "auditPosition",
  s.version as "heldVersion"
from account a join account_sync y on y.account_id = a.id left join subscription s on s.account_id = a.id, asked
where a.id = any (accounts) and y.lease = leases[array_position(accounts, a.id)] order by a.id for no key update of a`;

/** For a test to look at their plans. */
export const LOCK_LEASED: Statement = { name: 'lock-leased-accounts', text: LEASED };
export const LOCK_LEASED_AND_FREE: Statement = {
  name: 'lock-leased-accounts-that-are-free',
  text: `${LEASED} skip locked`,
};

/** The account's trial pack, locked likewise. Whoever needs the account as well locks that first. */
export async function lockTrialPack(tx: Tx, accountId: string): Promise<TrialPack | null> {
  const row = await locked(tx, 'select * from trial_pack where account_id = ? for no key update', [
    accountId,
  ]);
  return row && tx.map(TrialPack, row);
}

async function locked(
  tx: Tx,
  statement: string,
  keys: readonly string[],
): Promise<Record<string, unknown> | null> {
  // What is read takes the place of what the entity manager remembers, so changes are written first.
  await tx.flush();
  const [row] = await tx.execute<Record<string, unknown>[]>(statement, [...keys]);
  return row ?? null;
}

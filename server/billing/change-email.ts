import { randomUUID } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import type { Clock } from '../../shared/time.ts';
import { append } from '../audit/append.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { lockAccount } from '../database/locks.ts';
import { queueEmail } from '../notify/outbox.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { isTaken } from '../stripe/sync/customer/address.ts';
import { emailTaken, readAddress } from './accounts.ts';

type ChangeDeps = { db: Database; clock: Clock; stripe: Pick<StripeCalls, 'setCustomerEmail'> };

/** How often Stripe is asked at most, where the account changes while it answers. */
const TRIES = 3;

/**
 * Gives an account another address, here and at Stripe, and tells the old one: what an operator does for a customer.
 * Stripe is asked first, while nothing of the account is held, so that a crash in between leaves what the portal
 * would: Stripe's address, which we follow. Returns both addresses in lower case; the same address changes nothing.
 * Throws `not-found`, `validation-failed`, `conflict` with code `email_taken`, and what Stripe refuses.
 */
export async function changeEmail(
  deps: ChangeDeps,
  accountId: string,
  email: string,
): Promise<{ from: string; to: string }> {
  const to = readAddress(email);
  for (let tries = 0; tries < TRIES; tries++) {
    const before = await usable(deps.db.orm.em.fork(), accountId, to);
    const { email: from, stripeCustomerId: customer } = before;
    // A key of its own for each run: an address can come back within the day for which Stripe keeps keys.
    if (customer) await deps.stripe.setCustomerEmail(customer, to, `set_email:${randomUUID()}`);
    const written = await deps.db.transactionOn(accountId, async (tx) => {
      await lockAccount(tx, accountId);
      return await write(tx, before, to, deps.clock.now());
    });
    if (written) return { from, to };
  }
  throw new ProblemError('conflict', 'The account changes all the time. Look at it, and set it again.', {
    code: 'concurrent_change',
  });
}

/** The account, which can have this address. */
async function usable(tx: Tx, accountId: string, to: string): Promise<Account> {
  const account = await tx.findOne(Account, accountId);
  if (!account) throw new ProblemError('not-found', 'There is no such account.');
  if (await isTaken(tx, accountId, to)) throw emailTaken();
  return account;
}

/** Writes down what Stripe has taken; false where the account has changed meanwhile, so that Stripe may have as well. */
async function write(tx: Tx, before: Account, to: string, now: Date): Promise<boolean> {
  const { id: accountId, email: from, stripeCustomerId: customer } = before;
  const account = await usable(tx, accountId, to);
  if (account.stripeCustomerId !== customer) return false;
  // Nothing to change, or an event of Stripe has told of it, and it was followed.
  if (account.email === to && (account.stripeEmail === to || !customer)) return true;
  if (account.email !== from || account.stripeEmail !== before.stripeEmail) return false;
  account.email = to;
  if (customer) account.stripeEmail = to;
  if (from === to) return true;
  const key = `email_changed:${accountId}:${account.auditPosition}`;
  await append(tx, {
    accountId,
    action: 'account.email_changed',
    targetResourceId: formatId('acc', accountId),
    payload: { from, to },
    actor: { type: 'staff' },
    dedupeKey: key,
    now,
  });
  const mail = { template: 'email_changed', data: { from, to, by: 'staff' } } as const;
  await queueEmail(tx, { accountId, to: from, naturalKey: key, ...mail }, now);
  return true;
}

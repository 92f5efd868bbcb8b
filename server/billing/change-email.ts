import { randomUUID } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import type { Clock } from '../../shared/time.ts';
import { append } from '../audit/append.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { lockAccount } from '../database/locks.ts';
import { emailSchema } from '../notify/address.ts';
import { queueEmail } from '../notify/outbox.ts';
import { isTaken } from '../stripe/address.ts';
import type { StripeCalls } from '../stripe/gateway.ts';

/**
 * Gives an account another address, here and at Stripe, and tells the old one: what an operator does for a customer.
 * Stripe comes first and under the account's lock, so that a crash in between leaves what the portal would: Stripe's
 * address, which we follow. Returns both addresses in lower case; the same address changes nothing. Throws
 * `not-found`, `validation-failed`, `conflict` with code `email_taken`, and what Stripe refuses.
 */
export async function changeEmail(
  { db, clock, stripe }: { db: Database; clock: Clock; stripe: Pick<StripeCalls, 'setCustomerEmail'> },
  accountId: string,
  email: string,
): Promise<{ from: string; to: string }> {
  const address = emailSchema.safeParse(email);
  if (!address.success) {
    const message = 'must be an e-mail address such as ada@example.com';
    throw new ProblemError('validation-failed', `email ${message}.`, {
      errors: [{ field: 'email', message }],
    });
  }
  const to = address.data;
  return await db.transaction(async (tx) => {
    const account = await lockAccount(tx, accountId);
    if (!account) throw new ProblemError('not-found', 'There is no such account.');
    const { email: from, stripeCustomerId: customer, auditPosition } = account;
    if (await isTaken(tx, accountId, to)) {
      throw new ProblemError('conflict', 'There is already an account with this e-mail address.', {
        code: 'email_taken',
      });
    }
    // A key of its own for each run: an address can come back within the day for which Stripe keeps keys.
    if (customer) await stripe.setCustomerEmail(customer, to, `set_email:${randomUUID()}`);
    if (from === to) return { from, to };
    await tx.nativeUpdate(Account, { id: accountId }, { email: to, ...(customer && { stripeEmail: to }) });
    const now = clock.now();
    const key = `email_changed:${accountId}:${auditPosition}`;
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
    return { from, to };
  });
}

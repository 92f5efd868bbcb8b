import type Stripe from 'stripe';
import { formatId } from '../../../../shared/ids.ts';
import type { Tx } from '../../../database/connection.ts';
import { Account } from '../../../database/entities/account.ts';
import type { LockedAccount } from '../../../database/locks.ts';
import { emailSchema } from '../../../notify/address.ts';
import type { Alarm } from '../../deps.ts';
import type { Effect, Source } from '../effects.ts';

/**
 * Follows the address that the customer set at Stripe, where it differs from the one last seen there: what an
 * operator sets here is not undone by another change of the customer. The old address is told. One that is none, or
 * that another account has, is not taken: a person is told once, and the audit log says why. `account` is changed as well, so that what is
 * mailed from now on goes to the new address; mails that wait already go where they were written to.
 */
export async function followAddress(
  { tx, account, alarms }: { tx: Tx; account: LockedAccount; alarms: Alarm[] },
  customer: Stripe.Customer,
  source: Source,
): Promise<Effect[]> {
  const { id, email: from, stripeEmail: before, auditPosition } = account;
  const now = customer.email?.trim().toLowerCase() ?? null;
  if (now === before) return [];
  account.stripeEmail = now;
  await tx.nativeUpdate(Account, { id }, { stripeEmail: now });
  if (now === from) return [];
  const address = emailSchema.safeParse(now ?? '');
  // Named by where the audit log stood before, under the account's lock: an address can come back.
  const target = formatId('acc', id);
  if (!address.success || (await isTaken(tx, id, address.data))) {
    const because = address.success ? 'taken' : now ? 'invalid' : 'missing';
    alarms.push({
      kind: 'address_refused',
      details: { stripe_customer_id: customer.id, because, ...source },
    });
    const payload = { kept: from, refused: now || null, because, ...source };
    const key = `email_change_refused:${id}:${auditPosition}`;
    return [{ kind: 'audit', key, action: 'account.email_change_refused', target, payload }];
  }
  const to = address.data;
  account.email = to;
  await tx.nativeUpdate(Account, { id }, { email: to });
  const key = `email_changed:${id}:${auditPosition}`;
  return [
    {
      ...{ kind: 'audit', key, action: 'account.email_changed', target },
      payload: { from, to, ...source },
    },
    { kind: 'mail', key, template: 'email_changed', data: { from, to, by: 'stripe' }, to: from },
  ];
}

/** Whether another account has this address. */
export async function isTaken(tx: Tx, id: string, email: string): Promise<boolean> {
  return (await tx.count(Account, { email, id: { $ne: id } })) > 0;
}

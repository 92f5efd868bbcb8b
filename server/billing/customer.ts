import { hash } from 'node:crypto';
import { formatId } from '../../shared/ids.ts';
import { append } from '../audit/append.ts';
import { Account } from '../database/entities/account.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import type { BillingDeps, MintingCall } from './deps.ts';

/**
 * Gives the account its Stripe customer and commits the mapping, before anything is sold to it. However many
 * do it at once, there is one customer: the account, its generation and its address are the idempotency key. (One
 * that was used with an address that Stripe refused is no good for the next address.) Stripe forgets keys after a
 * day, so a customer whose mapping was lost to a crash is looked for first; that costs one call in the life of an
 * account.
 */
export async function createCustomer(
  { db, clock }: Pick<BillingDeps, 'db' | 'clock'>,
  stripe: Pick<StripeCalls, 'createCustomer' | 'listCustomers'>,
  call: MintingCall,
  { email, stripeCustomerGeneration: generation }: Account,
): Promise<void> {
  const { accountId, keyId, requestId } = call;
  const metadata = { driftstack_account_id: formatId('acc', accountId) };
  const earlier = (await stripe.listCustomers(email)).findLast(
    (customer) => customer.metadata['driftstack_account_id'] === metadata.driftstack_account_id,
  );
  const customer =
    earlier ?? (await stripe.createCustomer({ email, metadata }, keyOf(accountId, generation, email)));
  await db.transactionOn(accountId, async (tx) => {
    const mapped = await tx.nativeUpdate(
      Account,
      { id: accountId, stripeCustomerId: null, stripeCustomerGeneration: generation },
      { stripeCustomerId: customer.id, stripeEmail: customer.email?.toLowerCase() ?? null },
    );
    if (mapped === 0) return;
    await append(tx, {
      accountId,
      action: 'stripe_customer.created',
      targetResourceId: customer.id,
      payload: { request_id: requestId },
      actor: { type: 'customer', accountId, keyId },
      dedupeKey: `customer_created:${customer.id}`,
      now: clock.now(),
    });
  });
}

const keyOf = (accountId: string, generation: number, email: string): string =>
  `customer:${accountId}:${generation}:${hash('sha256', email).slice(0, 16)}`;

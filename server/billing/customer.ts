import { hash } from 'node:crypto';
import { formatId } from '../../shared/ids.ts';
import { appendBy, appending, type LogEnd } from '../audit/append.ts';
import type { Account } from '../database/entities/account.ts';
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
  account: Pick<Account, 'email' | 'stripeCustomerGeneration'> & LogEnd,
): Promise<void> {
  const { accountId, keyId, requestId } = call;
  const { email, stripeCustomerGeneration: generation } = account;
  const metadata = { driftstack_account_id: formatId('acc', accountId) };
  const earlier = (await stripe.listCustomers(email)).findLast(
    (customer) => customer.metadata['driftstack_account_id'] === metadata.driftstack_account_id,
  );
  const customer =
    earlier ?? (await stripe.createCustomer({ email, metadata }, keyOf(accountId, generation, email)));
  const entry = {
    accountId,
    action: 'stripe_customer.created' as const,
    targetResourceId: customer.id,
    payload: { request_id: requestId },
    actor: { type: 'customer' as const, accountId, keyId },
    dedupeKey: `customer_created:${customer.id}`,
    now: clock.now(),
  };
  const address = customer.email?.toLowerCase() ?? null;
  await appendBy(db, MAP_CUSTOMER, entry, account, [generation, customer.id, address]);
}

/** Maps the customer where the account has none, and has lost none meanwhile. */
const MAP_CUSTOMER = appending('map-customer', {
  ours: `ours as (
    select id, audit_position from mine where stripe_customer_id is null and stripe_customer_generation = $6)`,
  set: ['stripe_customer_id = $7', 'stripe_email = $8'],
});

const keyOf = (accountId: string, generation: number, email: string): string =>
  `customer:${accountId}:${generation}:${hash('sha256', email).slice(0, 16)}`;

import type { CheckoutSessionInput, CheckoutSessionResult } from '../../shared/billing.ts';
import { lookupKey } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import type { Tx } from '../database/connection.ts';
import { Subscription } from '../database/entities/billing.ts';
import { isLive } from '../stripe/sync/subscription/project.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { mintSession } from './minting.ts';
import { redirectsOf } from './redirect-urls.ts';

/**
 * Starts the purchase of a subscription. Throws 409 `already_subscribed` for an account that has one which
 * bills or will again, and 400 for an address that is missing or not on the allowlist.
 */
export async function startCheckout(
  deps: BillingDeps,
  call: MintingCall,
  input: CheckoutSessionInput,
): Promise<Minted<CheckoutSessionResult>> {
  return await mintSession(deps, call, {
    kind: 'subscription',
    lookupKey: lookupKey(input.tier, input.billing_period),
    ...redirectsOf(deps, input),
    given: input,
    refuse: (tx) => refuseSecond(tx, call.accountId),
    pending: () =>
      new ProblemError(
        'conflict',
        'A subscription of this account is waiting for its payment to arrive. It starts when it does.',
        { code: 'subscription_payment_pending' },
      ),
  });
}

async function refuseSecond(tx: Tx, accountId: string): Promise<void> {
  const subscription = await tx.findOne(Subscription, { accountId });
  if (!subscription || !isLive(subscription.status)) return;
  throw new ProblemError(
    'conflict',
    'This account already has a subscription. Change its plan or repair its payment in the customer portal: POST /v1/billing/portal-session.',
    { code: 'already_subscribed' },
  );
}

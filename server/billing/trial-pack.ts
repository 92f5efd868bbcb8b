import type { CheckoutSessionResult, TrialPackInput } from '../../shared/billing.ts';
import { TRIAL_PACK } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import type { Tx } from '../database/connection.ts';
import { TrialPack } from '../database/entities/billing.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { mintSession } from './minting.ts';
import { redirectsOf } from './redirect-urls.ts';

/**
 * Starts the purchase of the trial pack, once per account for ever: a refund does not open it again. Throws
 * 409 `trial_pack_already_redeemed`, or `trial_pack_payment_pending` while a delayed payment is under way.
 */
export async function startTrialPack(
  deps: BillingDeps,
  call: MintingCall,
  input: TrialPackInput,
): Promise<Minted<CheckoutSessionResult>> {
  return await mintSession(deps, call, {
    kind: 'trial_pack',
    lookupKey: TRIAL_PACK.lookupKey,
    ...redirectsOf(deps, input),
    given: input,
    refuse: (tx) => refuseSecond(tx, call.accountId),
    pending: () =>
      new ProblemError(
        'conflict',
        'The trial pack of this account is waiting for its payment to arrive. It is ready when it does.',
        { code: 'trial_pack_payment_pending' },
      ),
  });
}

async function refuseSecond(tx: Tx, accountId: string): Promise<void> {
  if ((await tx.count(TrialPack, { accountId })) === 0) return;
  throw new ProblemError('conflict', 'This account has had its trial pack. There is one per account.', {
    code: 'trial_pack_already_redeemed',
  });
}

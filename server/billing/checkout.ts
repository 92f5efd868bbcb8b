import type { CheckoutSessionInput, CheckoutSessionResult, TrialPackInput } from '../../shared/billing.ts';
import { lookupKey, TRIAL_PACK } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { mintSession } from './minting.ts';

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
    refused: alreadySubscribed,
    pending: () =>
      new ProblemError(
        'conflict',
        'A subscription of this account is waiting for its payment to arrive. It starts when it does.',
        { code: 'subscription_payment_pending' },
      ),
  });
}

const alreadySubscribed = () =>
  new ProblemError(
    'conflict',
    'This account already has a subscription. Change its plan or repair its payment in the customer portal: POST /v1/billing/portal-session.',
    { code: 'already_subscribed' },
  );

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
    refused: alreadyRedeemed,
    pending: () =>
      new ProblemError(
        'conflict',
        'The trial pack of this account is waiting for its payment to arrive. It is ready when it does.',
        { code: 'trial_pack_payment_pending' },
      ),
  });
}

const alreadyRedeemed = () =>
  new ProblemError('conflict', 'This account has had its trial pack. There is one per account.', {
    code: 'trial_pack_already_redeemed',
  });

type Given = { success_url?: string | undefined; cancel_url?: string | undefined };

/** Where Checkout leads back to: what the caller names, if it is allowed, else what the operator configured. */
function redirectsOf(
  { redirects, defaults }: Pick<BillingDeps, 'redirects' | 'defaults'>,
  { success_url, cancel_url }: Given,
): { successUrl: string; cancelUrl: string } {
  const missing = [
    ...(success_url === undefined && defaults.checkoutSuccessUrl === null ? ['success_url'] : []),
    ...(cancel_url === undefined && defaults.checkoutCancelUrl === null ? ['cancel_url'] : []),
  ];
  const choose = (field: string, given: string | undefined, configured: string | null): string => {
    if (given !== undefined) return redirects.check(field, given);
    if (configured !== null) return configured;
    const required = `${missing.length > 1 ? 'are' : 'is'} required, because this deployment has no default`;
    throw new ProblemError('validation-failed', `${missing.join(' and ')} ${required}.`, {
      code: 'redirect_url_required',
      errors: missing.map((name) => ({
        field: name,
        message: 'is required, because this deployment has no default for it',
      })),
    });
  };
  return {
    successUrl: choose('success_url', success_url, defaults.checkoutSuccessUrl),
    cancelUrl: choose('cancel_url', cancel_url, defaults.checkoutCancelUrl),
  };
}

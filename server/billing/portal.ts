import { createHash, randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import type { PortalSessionInput, PortalSessionResult } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { append } from '../audit/append.ts';
import { Account } from '../database/entities/account.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { isRefused } from '../stripe/api/refusal.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { answered, claim, claimOf, giveBack, whileClaimed } from './idempotency.ts';
import { letGoOfDeleted, tellingOperator } from './refused.ts';

const PATIENCE_MS = 22_000;

/**
 * Opens the customer portal. Its URL is single-use and never stored: a call repeated under its Idempotency-Key
 * is answered by Stripe, under a key derived from it. Throws 409 `no_billing_customer` before any purchase.
 */
export async function startPortal(
  deps: BillingDeps,
  call: MintingCall,
  input: PortalSessionInput,
): Promise<Minted<PortalSessionResult>> {
  const { db, clock, gateway, redirects, defaults } = deps;
  const { accountId, keyId, requestId } = call;
  const given = input.return_url;
  const returnUrl = given === undefined ? defaults.portalReturnUrl : redirects.check('return_url', given);
  const claimed = claimOf(call, 'portal', [returnUrl]);
  const stripe = gateway.within(PATIENCE_MS, 'person');

  return await whileClaimed(claimed, async () => {
    const { customer, earlier } = await db.transaction(async (tx) => {
      const earlier = await claim(tx, claimed, clock.now());
      const { stripeCustomerId } = await tx.findOneOrFail(Account, accountId);
      if (!stripeCustomerId) throw noCustomer();
      return { customer: stripeCustomerId, earlier };
    });
    try {
      const session = await tellingOperator(deps, accountId, input, () =>
        open(deps, stripe, call, { customer, ...(returnUrl !== null && { return_url: returnUrl }) }),
      );
      await db.transactionOn(accountId, async (tx) => {
        await append(tx, {
          accountId,
          action: 'portal_session.started',
          targetResourceId: session.id,
          payload: { request_id: requestId },
          actor: { type: 'customer', accountId, keyId },
          dedupeKey: `portal_session:${session.id}`,
          now: clock.now(),
        });
        await answered(tx, claimed, {});
      });
      return { value: { portal_url: session.url }, replayed: earlier !== null };
    } catch (error) {
      await giveBack(db, claimed);
      throw error;
    }
  });
}

type Wanted = { customer: string; return_url?: string };

/** Asks again when Stripe refuses the configuration that was remembered, and the operator has another by now. */
async function open(
  deps: BillingDeps,
  stripe: StripeCalls,
  { accountId, idempotencyKey }: MintingCall,
  wanted: Wanted,
): Promise<Stripe.BillingPortal.Session> {
  const create = (configuration: string | null) => {
    const params = { ...wanted, ...(configuration !== null && { configuration }) };
    // What we send may change between two calls under one key of the caller's, and Stripe compares it.
    const key = idempotencyKey === null ? randomUUID() : hashOf([accountId, idempotencyKey, params]);
    return stripe.createPortalSession(params, `portal:${key}`);
  };
  const remembered = await stripe.portalConfiguration();
  try {
    return await create(remembered);
  } catch (error) {
    const account = { id: accountId, stripeCustomerId: wanted.customer };
    if (await letGoOfDeleted(deps, stripe, account, error)) throw noCustomer();
    if (!isRefused(error)) throw error;
    stripe.forgetPortal();
    const configuration = await stripe.portalConfiguration();
    if (configuration === remembered) throw error;
    return await create(configuration);
  }
}

const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

const noCustomer = () =>
  new ProblemError('conflict', 'This account has bought nothing yet that could be managed in the portal.', {
    code: 'no_billing_customer',
  });

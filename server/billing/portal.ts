import { createHash, randomUUID } from 'node:crypto';
import type { PortalSessionInput, PortalSessionResult } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { append } from '../audit/append.ts';
import { Account } from '../database/entities/account.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { answered, claim, claimOf, giveBack, whileClaimed } from './idempotency.ts';

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
  const { accountId, keyId, requestId, idempotencyKey } = call;
  const given = input.return_url;
  const returnUrl = given === undefined ? defaults.portalReturnUrl : redirects.check('return_url', given);
  const claimed = claimOf(call, 'portal', [returnUrl]);
  const stripe = gateway.within(PATIENCE_MS);
  const key = idempotencyKey === null ? randomUUID() : hashOf(`${accountId} ${idempotencyKey}`);

  return await whileClaimed(claimed, async () => {
    const { customer, earlier } = await db.transaction(async (tx) => {
      const earlier = await claim(tx, claimed, clock.now());
      const { stripeCustomerId } = await tx.findOneOrFail(Account, accountId);
      if (!stripeCustomerId) throw noCustomer();
      return { customer: stripeCustomerId, earlier };
    });
    try {
      const configuration = await stripe.portalConfiguration();
      const session = await stripe.createPortalSession(
        {
          customer,
          ...(returnUrl !== null && { return_url: returnUrl }),
          ...(configuration !== null && { configuration }),
        },
        `portal:${key}`,
      );
      await db.transaction(async (tx) => {
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

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

const noCustomer = () =>
  new ProblemError(
    'conflict',
    'This account has never bought anything, so there is nothing to manage in the portal yet.',
    { code: 'no_billing_customer' },
  );

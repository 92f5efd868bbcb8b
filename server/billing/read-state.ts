import type { BillingState, GetStateInput } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { CheckoutAttempt } from '../database/entities/billing.ts';
import { synchronise } from '../stripe/sync/synchronise.ts';
import { type Caller, readBilling } from './caller.ts';
import type { BillingDeps } from './deps.ts';
import { tellingOperator } from './refused.ts';
import { billingRow, billingState } from './state.ts';

/**
 * The documented state. It costs no statement beyond the one that found the caller, unless a Checkout session
 * is named: then the account is first brought to what Stripe holds. Throws 404 for another account's session.
 */
export async function readState(
  deps: BillingDeps,
  caller: Caller,
  input: GetStateInput,
): Promise<BillingState> {
  const { db, clock } = deps;
  const { checkout_session_id: sessionId } = input;
  if (sessionId === undefined) return billingState(billingRow(caller.bought), clock.now());
  const { accountId } = caller;
  const owned = await db.orm.em.fork().count(CheckoutAttempt, { accountId, stripeSessionId: sessionId });
  if (owned === 0) throw new ProblemError('not-found', 'This account has no such Checkout session.');
  await tellingOperator(deps, accountId, {}, () =>
    synchronise(deps, accountId, { kind: 'checkout_session', sessionId }),
  );
  return billingState(await readBilling(db, accountId), clock.now());
}

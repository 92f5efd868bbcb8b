import { ProblemError } from '../../shared/errors.ts';
import type { Account } from '../database/entities/account.ts';
import { raiseRefusal } from '../stripe/alarm.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { asOperators, isMissingCustomer, refusedParam } from '../stripe/api/refusal.ts';
import { reconcile } from '../stripe/repair/reconcile.ts';
import type { BillingDeps } from './deps.ts';

/**
 * Runs what a caller asked of Stripe. Where Stripe refuses an address that the caller did not give, it is the
 * operator's; and whatever only the operator can mend raises an alarm, beside the answer that says so.
 */
export async function tellingOperator<T>(
  deps: BillingDeps,
  accountId: string,
  given: object,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const param = refusedParam(thrown);
    const isConfigured = param?.endsWith('_url') === true && Reflect.get(given, param) === undefined;
    const error = isConfigured && thrown instanceof ProblemError ? asOperators(thrown) : thrown;
    raiseRefusal(deps, accountId, error);
    throw error;
  }
}

/**
 * Lets go of a customer that Stripe has deleted without our having heard of it, with all that follows from that;
 * false when the refusal is about something else. Throws `feature-unavailable` for one that Stripe has never had:
 * more likely than not this is the key of another Stripe account.
 */
export async function letGoOfDeleted(
  deps: BillingDeps,
  stripe: Pick<StripeCalls, 'readCustomer'>,
  { id: accountId, stripeCustomerId }: Pick<Account, 'id' | 'stripeCustomerId'>,
  error: unknown,
): Promise<boolean> {
  if (!stripeCustomerId || !isMissingCustomer(error)) return false;
  const customer = await stripe.readCustomer(stripeCustomerId);
  if (customer === null) {
    throw new ProblemError(
      'feature-unavailable',
      'Stripe does not know the customer of this account. The operator has to check whether STRIPE_SECRET_KEY belongs to the Stripe account that this deployment began with.',
      { cause: error instanceof ProblemError ? error.cause : error },
    );
  }
  if (!customer.deleted) return false;
  await reconcile(deps, accountId, { by: 'customer_deleted' });
  return true;
}

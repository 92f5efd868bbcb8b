import { startCheckout } from '../../../server/billing/checkout.ts';
import { startTrialPack } from '../../../server/billing/trial-pack.ts';
import { addAccount } from '../../support/stripe.ts';
import { callOf, type Deployment, STRIPE_KEY } from './deployment.ts';

/** Buys at Stripe what tells four events or two, and answers the account. */
export async function buy(
  deployment: Pick<Deployment, 'db' | 'billing' | 'sandbox'>,
  kind: 'subscription' | 'trial_pack',
): Promise<string> {
  const { billing } = deployment;
  const accountId = await addAccount(deployment);
  const { value } =
    kind === 'trial_pack'
      ? await startTrialPack(billing, callOf(accountId), {})
      : await startCheckout(billing, callOf(accountId), { tier: 'api_builder', billing_period: 'monthly' });
  const response = await fetch(
    `${deployment.sandbox.url}/v1/payment_pages/${value.checkout_session_id}/confirm`,
    {
      method: 'POST',
      headers: {
        authorization: `Bearer ${STRIPE_KEY}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: 'payment_method=pm_card_visa',
    },
  );
  if (!response.ok) throw new Error(await response.text());
  return accountId;
}

/** How many rows a `from` clause has. */
export async function count({ db }: Pick<Deployment, 'db'>, from: string): Promise<number> {
  const { rows } = await db.pool.query<{ n: string }>(`select count(*) as n ${from}`);
  return Number(rows[0]?.n);
}

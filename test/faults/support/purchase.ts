import { expect } from 'vitest';
import { verifyChain } from '../../../server/audit/verify.ts';
import { startCheckout, startTrialPack } from '../../../server/billing/checkout.ts';
import { listMails } from '../../../server/local-stripe/mails.ts';
import { addAccount } from '../../support/stripe.ts';
import { callOf, type Deployment, STRIPE_KEY } from './deployment.ts';

export type Kind = 'subscription' | 'trial_pack';

/** Buys at Stripe what tells four events or two, and answers the account. */
export async function buy(
  deployment: Pick<Deployment, 'db' | 'billing' | 'localStripe'>,
  kind: Kind,
): Promise<string> {
  const { billing } = deployment;
  const accountId = await addAccount(deployment);
  const { value } =
    kind === 'trial_pack'
      ? await startTrialPack(billing, callOf(accountId), {})
      : await startCheckout(billing, callOf(accountId), { tier: 'api_builder', billing_period: 'monthly' });
  const response = await fetch(
    `${deployment.localStripe.url}/v1/payment_pages/${value.checkout_session_id}/confirm`,
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

const EXPECTED = {
  subscription: {
    actions: [
      'checkout_session.started',
      'invoice.paid',
      'stripe_customer.created',
      'subscription.status_changed',
      'subscription.tier_changed',
    ],
    mails: ['payment_receipt', 'subscription_started'],
    credit: [],
  },
  trial_pack: {
    actions: ['checkout_session.started', 'stripe_customer.created', 'trial_pack.redeemed'],
    mails: ['trial_pack_ready'],
    credit: ['grant 59800'],
  },
} as const satisfies Record<Kind, object>;

/** What became of a purchase: exactly its effects, each once, and each mail with the provider once. */
export async function expectBought(deployment: Deployment, accountId: string, kind: Kind): Promise<void> {
  const column = async (statement: string) =>
    (await deployment.db.pool.query<{ value: string }>(statement, [accountId])).rows.map(
      ({ value }) => value,
    );
  const expected = EXPECTED[kind];
  expect(
    await column(
      // Who is swept before the event has come is repaired by the sweep, which says so; the rest is the same.
      `select action as value from audit_entry where account_id = $1 and action <> 'operator.reconciled' order by action`,
    ),
  ).toEqual(expected.actions);
  expect(await verifyChain(deployment.db, accountId)).toBeNull();
  expect(await column('select template as value from email where account_id = $1 order by template')).toEqual(
    expected.mails,
  );
  expect(
    await column("select kind || ' ' || seconds as value from credit_entry where account_id = $1"),
  ).toEqual(expected.credit);
  const sent = listMails(deployment.localStripe.world).filter(({ to }) =>
    JSON.stringify(to).includes(accountId),
  );
  expect(sent).toHaveLength(expected.mails.length);
}

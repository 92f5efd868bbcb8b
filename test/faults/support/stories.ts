import { startCheckout, startTrialPack } from '../../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../../server/billing/deps.ts';
import { parseAllowlist } from '../../../server/billing/redirects.ts';
import { Account } from '../../../server/database/entities/account.ts';
import { Subscription, TrialPack } from '../../../server/database/entities/billing.ts';
import { uuidv7 } from '../../../server/database/uuid.ts';
import { lookupKey } from '../../../shared/catalog.ts';
import type { LocalBench } from '../../support/local-stripe.ts';
import { addAccount } from '../../support/stripe.ts';

/** What had happened to an account and has been processed, and what happens next at Stripe. */
export type Story = {
  readonly name: string;
  before(bench: LocalBench): Promise<string>;
  happens(bench: LocalBench, accountId: string): Promise<void>;
};

const DAY_S = 86_400;

/** Each kind of news Stripe has for an account. */
export const STORIES: readonly Story[] = [
  {
    name: 'a subscription that is bought',
    before: (bench) => openPage(bench, 'subscription'),
    happens: async (bench, accountId) => await payPage(bench, accountId),
  },
  {
    name: 'a trial pack that is paid',
    before: (bench) => openPage(bench, 'trial_pack'),
    happens: async (bench, accountId) => await payPage(bench, accountId),
  },
  {
    name: 'an upgrade',
    before: (bench) => bought(bench, 'subscription'),
    async happens(bench, accountId) {
      const { subscriptions } = bench.gateway.sdk;
      const { items, id } = await subscriptions.retrieve(await subscriptionOf(bench, accountId));
      const price = await bench.gateway.priceId(lookupKey('api_scale', 'monthly'));
      const [item] = items.data;
      await subscriptions.update(id, {
        items: [{ ...(item && { id: item.id }), price }],
        proration_behavior: 'always_invoice',
      });
    },
  },
  {
    name: 'a cancellation that is booked',
    before: (bench) => bought(bench, 'subscription'),
    async happens(bench, accountId) {
      const id = await subscriptionOf(bench, accountId);
      await bench.gateway.sdk.subscriptions.update(id, { cancel_at_period_end: true });
    },
  },
  {
    name: 'a renewal that cannot be paid',
    before: (bench) => bought(bench, 'subscription'),
    async happens(bench, accountId) {
      const { stripeCustomerId } = await bench.db.orm.em.fork().findOneOrFail(Account, accountId);
      await bench.hook(`/customers/${stripeCustomerId}/decline_next`, { times: 1 });
      // A month and the hour for which an invoice stays a draft, and not as far as the next try.
      await bench.hook('/clock', { skipSeconds: 31 * DAY_S + 7_200 });
    },
  },
  {
    name: 'a refund of a trial pack',
    before: (bench) => bought(bench, 'trial_pack'),
    async happens(bench, accountId) {
      await bench.gateway.refund(await paymentOf(bench, accountId), 'refund-of-the-story');
    },
  },
  {
    name: 'a dispute about a trial pack',
    before: (bench) => bought(bench, 'trial_pack'),
    async happens(bench, accountId) {
      const intent = await bench.gateway.readPaymentIntent(await paymentOf(bench, accountId));
      const charge = intent?.latest_charge;
      await bench.hook(`/charges/${typeof charge === 'string' ? charge : charge?.id}/dispute`);
    },
  },
  {
    name: 'the end of a subscription',
    before: (bench) => bought(bench, 'subscription'),
    async happens(bench, accountId) {
      await bench.gateway.sdk.subscriptions.cancel(await subscriptionOf(bench, accountId));
    },
  },
];

async function openPage(bench: LocalBench, kind: 'subscription' | 'trial_pack'): Promise<string> {
  const accountId = await addAccount(bench);
  const deps: BillingDeps = {
    ...bench,
    redirects: parseAllowlist(['https://your.app']),
    defaults: {
      checkoutSuccessUrl: 'https://your.app/ok',
      checkoutCancelUrl: 'https://your.app/back',
      portalReturnUrl: null,
    },
  };
  const call: MintingCall = {
    accountId,
    keyId: uuidv7(new Date()),
    requestId: 'req_1',
    idempotencyKey: null,
  };
  await (kind === 'trial_pack'
    ? startTrialPack(deps, call, {})
    : startCheckout(deps, call, { tier: 'api_builder', billing_period: 'monthly' }));
  return accountId;
}

async function bought(bench: LocalBench, kind: 'subscription' | 'trial_pack'): Promise<string> {
  const accountId = await openPage(bench, kind);
  await payPage(bench, accountId);
  await bench.catchUp();
  return accountId;
}

async function payPage(bench: LocalBench, accountId: string): Promise<void> {
  const { rows } = await bench.db.pool.query<{ stripe_session_id: string }>(
    "select stripe_session_id from checkout_attempt where account_id = $1 and state = 'open'",
    [accountId],
  );
  await bench.pay(rows[0]?.stripe_session_id ?? '');
}

async function subscriptionOf({ db }: LocalBench, accountId: string): Promise<string> {
  return (await db.orm.em.fork().findOneOrFail(Subscription, { accountId })).stripeSubscriptionId;
}

async function paymentOf({ db }: LocalBench, accountId: string): Promise<string> {
  return (await db.orm.em.fork().findOneOrFail(TrialPack, { accountId })).paymentIntent;
}

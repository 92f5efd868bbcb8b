import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyChain } from '../../server/audit/verify.ts';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { sweep } from '../../server/stripe/repair/sweep.ts';
import type { Tier } from '../../shared/catalog.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { processEvents } from '../support/processing.ts';
import { addAccount } from '../support/stripe.ts';

const WEEK_S = 7 * 86_400;
let bench: LocalBench;
let deps: BillingDeps;
const time = { now: new Date() };
beforeAll(async () => {
  bench = await openLocalBench();
  bench.clock = { now: () => time.now };
  const defaults = {
    checkoutSuccessUrl: 'https://your.app/ok',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: null,
  };
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults };
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string): MintingCall => ({
  accountId,
  keyId: uuidv7(new Date()),
  requestId: 'req_1',
  idempotencyKey: null,
});
const rowOf = (accountId: string) => em().findOneOrFail(Subscription, { accountId });
const priceOf = (tier: Tier) => bench.gateway.priceId(`driftstack_${tier}_monthly`);

async function checkout(accountId: string, tier: Tier = 'api_builder'): Promise<string> {
  const { value } = await startCheckout(deps, callOf(accountId), { tier, billing_period: 'monthly' });
  return value.checkout_session_id;
}

async function buyPack(accountId: string): Promise<void> {
  await bench.pay((await startTrialPack(deps, callOf(accountId), {})).value.checkout_session_id);
}

/** Everything that follows Stripe, versions included: what was changed twice would show. */
async function state(): Promise<unknown> {
  const tables = ['subscription', 'trial_pack', 'credit_entry', 'checkout_attempt'];
  const contents = [];
  for (const table of tables) {
    contents.push((await bench.db.pool.query(`select t::text as row from ${table} t order by 1`)).rows);
  }
  contents.push((await bench.db.pool.query('select id, stripe_customer_id from account order by 1')).rows);
  return contents;
}

it('a week of lost deliveries is made good by comparing alone, and the events that come late change nothing more', {
  timeout: 120_000,
}, async () => {
  const subscribed = async (): Promise<{ accountId: string; subscriptionId: string; customer: string }> => {
    const accountId = await addAccount(bench);
    await bench.pay(await checkout(accountId));
    await bench.catchUp();
    const { stripeSubscriptionId: subscriptionId } = await rowOf(accountId);
    const { customer } = await bench.gateway.sdk.subscriptions.retrieve(subscriptionId);
    return { accountId, subscriptionId, customer: String(customer) };
  };
  const upgraded = await subscribed();
  const cancelling = await subscribed();
  const cancelled = await subscribed();
  const doubled = await subscribed();
  const refunded = await addAccount(bench);
  await buyPack(refunded);
  await bench.catchUp();
  expect(await catchUp({ ...bench, livemode: false })).toBe(0);

  // From here on nothing arrives any more.
  const { sdk } = bench.gateway;
  const [item] = (await sdk.subscriptions.retrieve(upgraded.subscriptionId)).items.data;
  await sdk.subscriptions.update(upgraded.subscriptionId, {
    items: [{ id: item?.id ?? '', price: await priceOf('api_scale') }],
  });
  await sdk.subscriptions.update(cancelling.subscriptionId, { cancel_at_period_end: true });
  await sdk.subscriptions.cancel(cancelled.subscriptionId);
  // Somebody adds a second one in the Dashboard.
  const method = (await sdk.subscriptions.retrieve(doubled.subscriptionId)).default_payment_method;
  const surplus = await sdk.subscriptions.create({
    customer: doubled.customer,
    default_payment_method: String(method),
    items: [{ price: await priceOf('api_starter') }],
  });
  const pack = await em().findOneOrFail(TrialPack, { accountId: refunded });
  await sdk.refunds.create({ payment_intent: pack.paymentIntent });
  const bought = await addAccount(bench);
  await bench.pay(await checkout(bought, 'team_manual'));
  const packed = await addAccount(bench);
  await buyPack(packed);
  const left = await addAccount(bench);
  await checkout(left);
  await bench.hook('/clock', { skipSeconds: WEEK_S });
  time.now = new Date(time.now.getTime() + WEEK_S * 1000);

  const before = await state();
  for (const { accountId } of [upgraded, cancelling, cancelled, doubled]) {
    expect(await reconcile(bench, accountId, { by: 'reconciler', dryRun: true })).not.toEqual([]);
  }
  expect(await state()).toEqual(before);
  const swept = await sweep({ ...bench, throttle: async () => {} }, new AbortController().signal);
  expect(swept).toEqual({ checked: 8, repaired: 8, failed: 0 });

  expect(await rowOf(upgraded.accountId)).toMatchObject({ tier: 'api_scale', status: 'active' });
  expect(await rowOf(cancelling.accountId)).toMatchObject({ cancelAtPeriodEnd: true });
  expect(await rowOf(cancelled.accountId)).toMatchObject({ status: 'canceled', entitled: false });
  expect(await rowOf(doubled.accountId)).toMatchObject({ tier: 'api_builder', status: 'active' });
  expect((await sdk.subscriptions.retrieve(surplus.id)).status).toBe('canceled');
  expect(await rowOf(bought)).toMatchObject({ tier: 'team_manual', status: 'active' });
  expect(await em().findOneOrFail(TrialPack, { accountId: packed })).toMatchObject({
    grantedSeconds: 59_800,
  });
  expect(await em().findOneOrFail(TrialPack, { accountId: refunded })).toMatchObject({ state: 'revoked' });
  await expect(checkout(left)).resolves.toMatch(/^cs_/);

  // Then the door opens again, and Stripe is asked what it told in that week.
  const reconciled = await state();
  const missed = await catchUp({ ...bench, livemode: false });
  expect(missed).toBeGreaterThan(10);
  const waiting = await em().find(StripeEvent, { state: 'received' });
  expect(
    await processEvents(
      bench,
      waiting.map(({ id }) => id),
    ),
  ).toEqual(new Map());
  expect(await state()).toEqual(reconciled);
  for (const accountId of [upgraded.accountId, doubled.accountId, bought, packed, refunded]) {
    expect(await reconcile(bench, accountId, { by: 'reconciler' })).toEqual([]);
    expect(await verifyChain(bench.db, accountId)).toBeNull();
  }

  // Each fact once: the repair, and what only the events could tell.
  const actionsOf = async (accountId: string) =>
    (await em().find(AuditEntry, { accountId })).map(({ action }) => action);
  const count = (actions: readonly string[], wanted: string) =>
    actions.filter((action) => action === wanted).length;
  const second = await actionsOf(doubled.accountId);
  expect(count(second, 'subscription.duplicate_canceled')).toBe(1);
  expect(count(second, 'operator.reconciled')).toBe(1);
  const first = await actionsOf(bought);
  expect(count(first, 'invoice.paid')).toBe(1);
  expect(count(first, 'subscription.tier_changed')).toBe(1);
  const mails = (await em().find(Email, { accountId: bought })).map(({ template }) => template).toSorted();
  expect(mails).toEqual(['payment_receipt', 'subscription_started']);
  const refunds = await sdk.refunds.list({ limit: 100 });
  expect(refunds.data).toHaveLength(2);
});

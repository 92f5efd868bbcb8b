import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCheckout } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { startPortal } from '../../server/billing/portal.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { IdempotencyKey } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { portalCancel, portalChangePlan, portalKeep } from '../../server/local-stripe/portal/actions.ts';
import { redeemPortalLink } from '../../server/local-stripe/portal/sessions.ts';
import { EVENT_TYPES } from '../../server/stripe/events.ts';
import { setUpStripe } from '../../server/stripe/set-up.ts';
import { CATALOGUE, lookupKey, type Tier } from '../../shared/catalog.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { addAccount } from '../support/stripe.ts';

let bench: LocalBench;
let deps: BillingDeps;
beforeAll(async () => {
  bench = await openLocalBench();
  const defaults = {
    checkoutSuccessUrl: 'https://your.app/ok',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: 'https://your.app/billing',
  };
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults };
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string, idempotencyKey: string | null = null): MintingCall => ({
  accountId,
  keyId: uuidv7(new Date()),
  requestId: 'req_1',
  idempotencyKey,
});
const subscribe = async (): Promise<string> => {
  const accountId = await addAccount(bench);
  const { value } = await startCheckout(deps, callOf(accountId), {
    tier: 'api_builder',
    billing_period: 'monthly',
  });
  await bench.pay(value.checkout_session_id);
  await bench.catchUp();
  return accountId;
};

describe('startPortal', () => {
  it('gives a fresh link each time and never stores it', async () => {
    const accountId = await subscribe();
    const one = await startPortal(deps, callOf(accountId, 'portal-1'), {});
    const two = await startPortal(deps, callOf(accountId), { return_url: 'https://your.app/other' });
    expect(one.value.portal_url).not.toBe(two.value.portal_url);
    const again = await startPortal(deps, callOf(accountId, 'portal-1'), {});
    expect(again).toEqual({ value: one.value, replayed: true });
    const stored = [
      await em().find(IdempotencyKey, { accountId }),
      await em().find(AuditEntry, { accountId }),
    ];
    expect(JSON.stringify(stored)).not.toContain(new URL(one.value.portal_url).pathname);
    const started = await em().count(AuditEntry, { accountId, action: 'portal_session.started' });
    expect(started).toBe(2);
  });

  it('refuses a key used for another request, an address not allowed, and an account without a customer', async () => {
    const accountId = await subscribe();
    await startPortal(deps, callOf(accountId, 'portal-2'), {});
    const other = { return_url: 'https://your.app/other' };
    await expect(startPortal(deps, callOf(accountId, 'portal-2'), other)).rejects.toMatchObject({
      status: 409,
      options: { idempotency_status: 'mismatch' },
    });
    await expect(
      startPortal(deps, callOf(accountId), { return_url: 'https://evil.example' }),
    ).rejects.toMatchObject({
      status: 400,
      code: 'redirect_url_not_allowed',
      options: { errors: [{ field: 'return_url' }] },
    });
    const bare = await addAccount(bench);
    await expect(startPortal(deps, callOf(bare, 'portal-3'), {})).rejects.toMatchObject({
      status: 409,
      code: 'no_billing_customer',
    });
    expect(await em().count(IdempotencyKey, { accountId: bare })).toBe(0);
  });
});

it('a purchase on the local Stripe becomes the row, the audit log and the mails', async () => {
  const accountId = await subscribe();
  expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({
    tier: 'api_builder',
    billingPeriod: 'monthly',
    status: 'active',
    entitled: true,
  });
  const actions = (await em().find(AuditEntry, { accountId })).map(({ action }) => action);
  expect(actions.sort()).toEqual([
    'checkout_session.started',
    'invoice.paid',
    'stripe_customer.created',
    'subscription.status_changed',
    'subscription.tier_changed',
  ]);
  const mails = (await em().find(Email, { accountId })).map(({ template }) => template);
  expect(mails.sort()).toEqual(['payment_receipt', 'subscription_started']);
  await expect(
    startCheckout(deps, callOf(accountId), { tier: 'api_scale', billing_period: 'annual' }),
  ).rejects.toMatchObject({ code: 'already_subscribed' });
});

it('what a customer does in the portal is reflected in row, audit log and mails', async () => {
  const accountId = await subscribe();
  const { world } = bench.localStripe;
  const visit = async (): Promise<string> => {
    const { value } = await startPortal(deps, callOf(accountId), {});
    return redeemPortalLink(world, new URL(value.portal_url).pathname.split('/').at(-1) ?? '').visit;
  };
  const change = async (tier: Tier) => {
    portalChangePlan(world, await visit(), await bench.gateway.priceId(lookupKey(tier, 'monthly')));
    await bench.catchUp();
    return await em().findOneOrFail(Subscription, { accountId });
  };
  expect(await change('api_scale')).toMatchObject({ tier: 'api_scale', pendingTier: null });
  expect(await change('api_starter')).toMatchObject({ tier: 'api_scale', pendingTier: 'api_starter' });
  expect(await change('api_scale')).toMatchObject({ tier: 'api_scale', pendingTier: null });
  portalCancel(world, await visit());
  await bench.catchUp();
  expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({
    cancelAtPeriodEnd: true,
    status: 'active',
  });
  portalKeep(world, await visit());
  await bench.catchUp();
  expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({ cancelAtPeriodEnd: false });

  const entries = await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
  expect(entries.map(({ action }) => action).filter((action) => /tier|cancel/.test(action))).toEqual([
    'subscription.tier_changed',
    'subscription.tier_changed',
    'subscription.tier_change_scheduled',
    'subscription.tier_change_unscheduled',
    'subscription.cancel_scheduled',
    'subscription.cancel_unscheduled',
  ]);
  const mails = (await em().find(Email, { accountId })).map(({ template }) => template);
  expect(mails.sort()).toEqual([
    'cancellation_scheduled',
    'cancellation_undone',
    'payment_receipt',
    'payment_receipt',
    'plan_change_scheduled',
    'plan_change_unscheduled',
    'plan_changed',
    'subscription_started',
  ]);
});

it('a second subscription on the local Stripe is refunded and ended', async () => {
  const accountId = await subscribe();
  const held = await em().findOneOrFail(Subscription, { accountId });
  const first = await bench.gateway.sdk.subscriptions.retrieve(held.stripeSubscriptionId);
  const second = await bench.gateway.sdk.subscriptions.create({
    customer: String(first.customer),
    items: [{ price: await bench.gateway.priceId('driftstack_api_starter_monthly') }],
    default_payment_method: String(first.default_payment_method),
  });
  await bench.catchUp();
  const ended = await bench.gateway.sdk.subscriptions.retrieve(second.id);
  expect(ended.status).toBe('canceled');
  const [payment] = await bench.gateway.listInvoicePayments(String(second.latest_invoice));
  const intent = await bench.gateway.readPaymentIntent(String(payment?.payment.payment_intent));
  expect(intent?.latest_charge).toMatchObject({ refunded: true });
  expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({
    tier: 'api_builder',
    status: 'active',
  });
  const told = await em().count(AuditEntry, { accountId, action: 'subscription.duplicate_canceled' });
  expect(told).toBe(1);
});

it('the notice of a renewal tells a downgrade booked in the portal with its own price', async () => {
  const accountId = await subscribe();
  const { world } = bench.localStripe;
  const { value } = await startPortal(deps, callOf(accountId), {});
  const { visit } = redeemPortalLink(world, new URL(value.portal_url).pathname.split('/').at(-1) ?? '');
  portalChangePlan(world, visit, await bench.gateway.priceId(lookupKey('api_starter', 'monthly')));
  await bench.catchUp();
  const { currentPeriodEnd } = await em().findOneOrFail(Subscription, { accountId });
  const sixDaysBefore = currentPeriodEnd.getTime() / 1_000 - 6 * 86_400;
  world.runUntil(sixDaysBefore, null);
  await bench.catchUp();
  const notices = await em().find(Email, { accountId, template: 'renewal_upcoming' });
  expect(notices.map(({ data }) => data)).toEqual([
    {
      plan: { tier: 'api_starter', billingPeriod: 'monthly' },
      amountCents: 2_900,
      currency: 'usd',
      renewsAt: currentPeriodEnd.toISOString(),
      charged: true,
    },
  ]);
});

describe('setUpStripe', () => {
  it('has made every price and changes nothing when it runs again', async () => {
    const made = bench.setUp.steps.filter(({ what, did }) => did === 'made' && bench.setUp.prices.has(what));
    expect(made).toHaveLength(CATALOGUE.length + 1);
    const again = await setUpStripe(bench.gateway, { webhookUrl: null });
    expect(again).toEqual({ ...bench.setUp, steps: expect.anything() });
    expect(new Set(again.steps.map(({ did }) => did))).toEqual(new Set(['left']));
  });

  it('makes one endpoint with our events and the pinned version, and shows its secret once', async () => {
    const webhookUrl = 'https://your.app/webhooks/stripe';
    const first = await setUpStripe(bench.gateway, { webhookUrl });
    expect(first.webhook?.secret).toMatch(/^whsec_/);
    const second = await setUpStripe(bench.gateway, { webhookUrl });
    expect(second.webhook).toEqual({ id: first.webhook?.id, secret: null });
    const endpoint = await bench.gateway.sdk.webhookEndpoints.retrieve(first.webhook?.id ?? '');
    expect(endpoint).toMatchObject({
      api_version: bench.gateway.sdk.getApiField('version'),
      status: 'enabled',
    });
    expect([...endpoint.enabled_events].sort()).toEqual([...EVENT_TYPES].sort());
    await bench.gateway.sdk.webhookEndpoints.del(endpoint.id);
  });
});

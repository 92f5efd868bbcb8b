import type Stripe from 'stripe';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVENT_TYPES } from '../../server/stripe/events.ts';
import { type SetUp, setUpStripe } from '../../server/stripe/set-up.ts';
import { CATALOGUE, TRIAL_PACK } from '../../shared/catalog.ts';
import { runCli } from '../support/cli.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { startScriptedStripe } from '../support/scripted-stripe.ts';

let bench: LocalBench;
beforeEach(async () => {
  bench = await openLocalBench();
});
afterEach(() => bench.close());

const URL_OF_OURS = 'https://billing.your.app/webhooks/stripe';
const MONTHLY = 'driftstack_api_builder_monthly';
const ANNUAL = 'driftstack_api_builder_annual';
const sdk = () => bench.gateway.sdk;
const run = (options: Partial<Parameters<typeof setUpStripe>[1]> = {}) =>
  setUpStripe(bench.gateway, { webhookUrl: null, ...options });
const idOf = (key: string, { prices } = bench.setUp) => prices.get(key) ?? '';
const did = ({ steps }: SetUp, id: string) => steps.filter((step) => step.id === id).map((step) => step.did);
/** What is wanted of any account: each key sells an active price of an active product, and the portal offers it. */
async function expectReady(done: SetUp): Promise<void> {
  for (const { lookupKey } of [...CATALOGUE, TRIAL_PACK]) {
    const { data } = await sdk().prices.list({
      lookup_keys: [lookupKey],
      active: true,
      expand: ['data.product'],
    });
    expect(data, lookupKey).toMatchObject([{ id: idOf(lookupKey, done), product: { active: true } }]);
  }
  const portal = await sdk().billingPortal.configurations.retrieve(done.portalConfigurationId, {
    expand: ['features.subscription_update.products'],
  });
  expect(portal.active).toBe(true);
  const { products } = portal.features.subscription_update;
  const offered = products?.flatMap(({ prices }) => prices) ?? [];
  expect(offered.sort()).toEqual(CATALOGUE.map(({ lookupKey }) => idOf(lookupKey, done)).sort());
  expect(await bench.gateway.portalConfiguration()).toBe(done.portalConfigurationId);
}

describe('stripe setup brings to the wanted state an account', () => {
  it('whose price was archived, with the amount that its operator gave it', async () => {
    const old = await sdk().prices.create({
      product: 'driftstack_api_builder',
      currency: 'eur',
      unit_amount: 12_345,
      recurring: { interval: 'month' },
      lookup_key: MONTHLY,
      transfer_lookup_key: true,
    });
    await sdk().prices.update(old.id, { active: false });
    const done = await run();
    expect(did(done, old.id)).toEqual(['reactivated']);
    expect(await sdk().prices.retrieve(old.id)).toMatchObject({ unit_amount: 12_345, currency: 'eur' });
    await expectReady(done);
  });

  it('whose product was archived', async () => {
    await sdk().products.update('driftstack_team_manual', { active: false });
    await sdk().products.update('driftstack_trial_pack', { active: false });
    const done = await run();
    expect(did(done, 'driftstack_team_manual')).toEqual(['reactivated']);
    expect(did(done, 'driftstack_trial_pack')).toEqual(['reactivated']);
    await expectReady(done);
  });

  it('whose operator sells from a product of his own', async () => {
    const product = await sdk().products.create({ name: 'Builder' });
    const price = await sdk().prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 5_000,
      recurring: { interval: 'month' },
      lookup_key: MONTHLY,
      transfer_lookup_key: true,
    });
    const done = await run();
    expect(did(done, price.id)).toEqual(['left']);
    await expectReady(done);
  });

  it('whose product is there while its prices have lost their keys', async () => {
    await sdk().prices.update(idOf(MONTHLY), { lookup_key: '' });
    await sdk().products.update('driftstack_api_builder', { active: false });
    const done = await run();
    expect(idOf(MONTHLY, done)).not.toBe(idOf(MONTHLY));
    expect(did(done, idOf(MONTHLY, done))).toEqual(['made']);
    await expectReady(done);
  });

  it('whose portal configuration was switched off, or offers nothing', async () => {
    await sdk().billingPortal.configurations.update(bench.setUp.portalConfigurationId, { active: false });
    const done = await run();
    expect(done.portalConfigurationId).toBe(bench.setUp.portalConfigurationId);
    expect(did(done, done.portalConfigurationId)).toEqual(['reactivated']);
    await expectReady(done);
    await sdk().billingPortal.configurations.update(done.portalConfigurationId, {
      features: { subscription_update: { enabled: false, default_allowed_updates: [], products: '' } },
    });
    const again = await run();
    expect(did(again, done.portalConfigurationId)).toEqual(['changed']);
    await expectReady(again);
  });

  it('with more configurations and endpoints than fit on a page', { timeout: 60_000 }, async () => {
    const first = await run({ webhookUrl: URL_OF_OURS });
    for (let n = 0; n < 101; n++) {
      await sdk().billingPortal.configurations.create({ features: { invoice_history: { enabled: true } } });
      await sdk().webhookEndpoints.create({
        url: `https://other.app/${n}`,
        enabled_events: ['customer.updated'],
      });
    }
    const done = await run({ webhookUrl: URL_OF_OURS });
    expect(done.portalConfigurationId).toBe(first.portalConfigurationId);
    expect(done.webhook).toEqual({ id: first.webhook?.id, secret: null });
    bench.gateway.forgetPortal();
    await expectReady(done);
  });

  it('whose endpoint was disabled, lacks events, or gets more than ours', async () => {
    const { webhook } = await run({ webhookUrl: URL_OF_OURS });
    const id = webhook?.id ?? '';
    const expected = [...EVENT_TYPES].sort();
    const changes: [string, Stripe.WebhookEndpointUpdateParams][] = [
      ['reactivated', { disabled: true }],
      ['changed', { enabled_events: ['invoice.paid'] }],
      ['changed', { enabled_events: ['*'] }],
    ];
    for (const [was, change] of changes) {
      await sdk().webhookEndpoints.update(id, change);
      expect(did(await run({ webhookUrl: URL_OF_OURS }), id)).toEqual([was]);
      const endpoint = await sdk().webhookEndpoints.retrieve(id);
      expect(endpoint).toMatchObject({ status: 'enabled' });
      expect([...endpoint.enabled_events].sort()).toEqual(expected);
    }
    expect(did(await run({ webhookUrl: URL_OF_OURS }), id)).toEqual(['left']);
  });

  it('whose endpoint was deleted since the last run, within the day in which Stripe repeats its answers', async () => {
    const first = await run({ webhookUrl: URL_OF_OURS });
    await sdk().webhookEndpoints.del(first.webhook?.id ?? '');
    const second = await run({ webhookUrl: URL_OF_OURS });
    expect(second.webhook?.id).not.toBe(first.webhook?.id);
    expect(second.webhook?.secret).toMatch(/^whsec_/);
    expect(await sdk().webhookEndpoints.retrieve(second.webhook?.id ?? '')).toMatchObject({
      status: 'enabled',
    });
  });

  it('that is empty, by two runs at once', async () => {
    await bench.hook('/reset', { keepEndpoints: false });
    const [one, two] = await Promise.all([
      run({ webhookUrl: URL_OF_OURS }),
      run({ webhookUrl: URL_OF_OURS }),
    ]);
    expect(one.prices).toEqual(two.prices);
    expect(one.portalConfigurationId).toBe(two.portalConfigurationId);
    expect(one.webhook?.id).toBe(two.webhook?.id);
    expect((await sdk().prices.list({ limit: 100 })).data).toHaveLength(CATALOGUE.length + 1);
    expect((await sdk().billingPortal.configurations.list({ is_default: false })).data).toHaveLength(1);
    expect((await sdk().webhookEndpoints.list()).data).toHaveLength(1);
    bench.gateway.forgetPortal();
    await expectReady(one);
  });
});

describe('stripe setup names and leaves', () => {
  it.each([
    [
      'recurs otherwise than its key says',
      ANNUAL,
      { recurring: { interval: 'month' } },
      'recurs every 1 month',
    ],
    [
      'recurs every three months',
      MONTHLY,
      { recurring: { interval: 'month', interval_count: 3 } },
      'every 3 month',
    ],
    ['does not recur', MONTHLY, {}, 'is one charge'],
    ['is not what the trial pack costs', TRIAL_PACK.lookupKey, { unit_amount: 399 }, '399 usd'],
  ] as const)('a price that %s', async (_what, key, members, words) => {
    const price = await sdk().prices.create({
      product: 'driftstack_api_builder',
      currency: 'usd',
      unit_amount: 299,
      ...members,
      lookup_key: key,
      transfer_lookup_key: true,
    });
    const { steps } = await run();
    expect(steps.filter(({ id }) => id === price.id)).toEqual([
      { did: 'wrong', what: key, id: price.id, note: expect.stringContaining(words) },
    ]);
    expect(await sdk().prices.retrieve(price.id)).toMatchObject({ active: true, lookup_key: key });
  });

  it('an endpoint that was made for another API version', async () => {
    const endpoint = await sdk().webhookEndpoints.create({
      url: URL_OF_OURS,
      enabled_events: [...EVENT_TYPES],
      api_version: '2024-06-20',
    });
    const done = await run({ webhookUrl: URL_OF_OURS });
    expect(did(done, endpoint.id)).toEqual(['left', 'wrong']);
    expect(done.steps.at(-1)?.note).toContain('2024-06-20');
  });
});

it('says what it would do in a dry run, and does nothing', async () => {
  await bench.hook('/reset', { keepEndpoints: false });
  const { steps } = await run({ webhookUrl: URL_OF_OURS, dryRun: true });
  expect(new Set(steps.map((step) => step.did))).toEqual(new Set(['made']));
  expect(steps.map(({ what }) => what)).toEqual(
    expect.arrayContaining([MONTHLY, 'customer portal', 'webhook endpoint']),
  );
  expect((await sdk().prices.list()).data).toEqual([]);
  expect((await sdk().products.list()).data).toEqual([]);
  expect((await sdk().webhookEndpoints.list()).data).toEqual([]);
});

describe('the command', () => {
  it.each([
    ['a wrong key', 401, {}, 'STRIPE_SECRET_KEY'],
    ['a key without the permission', 403, {}, 'permission'],
    ['an outage', 500, {}, 'run this again'],
    ['a refusal', 400, { code: 'parameter_unknown', param: 'x' }, 'mend what it names'],
  ])('says in one sentence what to do about %s', async (_what, status, members, words) => {
    const stripe = await startScriptedStripe();
    const error = {
      type: 'invalid_request_error',
      message: 'No such thing.\nsk_test_secret0123456789',
      ...members,
    };
    stripe.interfere(() => ({ kind: 'answer', status, body: JSON.stringify({ error }) }));
    const at = { databaseUrl: bench.db.url, stripeUrl: stripe.url };
    const env = { STRIPE_SECRET_KEY: 'sk_test_secret0123456789' };
    const { code, err } = await runCli({ ...at, env }, 'stripe', 'setup');
    await stripe.close();
    expect(code).toBe(1);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toContain(words);
    expect(err).not.toContain('sk_test_secret0123456789');
  });

  it('prints each step, and the secret once', async () => {
    const at = { databaseUrl: bench.db.url, stripeUrl: bench.localStripe.url };
    const args = ['stripe', 'setup', '--webhook-url', URL_OF_OURS];
    const first = await runCli(at, ...args);
    expect(first).toMatchObject({ code: 0, err: '' });
    expect(first.out).toMatch(/^left {8}driftstack_api_builder_monthly +price_\w+/m);
    expect(first.out).toMatch(/^made {8}webhook endpoint +we_\w+/m);
    expect(first.out).toMatch(/whsec_/);
    expect((await runCli(at, ...args)).out).not.toMatch(/whsec_/);
  });
});

import Stripe from 'stripe';
import { expect, it } from 'vitest';
import { clientOf, eventually, localStripeWithClient, refusal } from './support/api.ts';

const create = (stripe: Stripe) => stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k' });

it('answers 429 with and without Retry-After, for as many calls as ordered and only where ordered', async () => {
  const { stripe, hook } = await localStripeWithClient();
  await hook('/faults', {
    on: 'api',
    fault: { kind: 'rate_limit', retryAfterSeconds: 3 },
    path: '/v1/customers',
    times: 2,
  });
  await stripe.products.create({ name: 'x' });
  const first = await refusal(create(stripe));
  expect(first).toBeInstanceOf(Stripe.errors.StripeRateLimitError);
  expect(first.headers?.['retry-after']).toBe('3');
  await refusal(create(stripe));
  expect((await create(stripe)).name).toBe('A');
  await hook('/faults', { on: 'api', fault: { kind: 'rate_limit' } });
  expect((await refusal(stripe.customers.list())).headers?.['retry-after']).toBeUndefined();
});

it.each([
  ['server_error before the effect', { kind: 'server_error', effect: false }, 0],
  ['server_error after the effect', { kind: 'server_error', effect: true }, 1],
  ['a timeout before the effect', { kind: 'timeout', effect: false }, 0],
  ['a timeout after the effect', { kind: 'timeout', effect: true }, 1],
  ['a connection cut before the effect', { kind: 'hang_up', effect: false }, 0],
  ['a connection cut after the effect', { kind: 'hang_up', effect: true }, 1],
  ['a truncated body', { kind: 'truncate' }, 1],
  ['a body that is not JSON', { kind: 'garbage' }, 1],
])('%s: the call fails, and the same key makes exactly one customer', async (_name, fault, madeAtOnce) => {
  const { localStripe, stripe, hook } = await localStripeWithClient();
  const impatient = clientOf(localStripe.port, { timeout: 300 });
  // stripe-node sends a call whose connection was cut once more by itself, even when told not to retry.
  await hook('/faults', { on: 'api', fault, times: fault.kind === 'hang_up' ? 2 : 1 });
  await refusal(create(impatient));
  expect(localStripe.world.store.count('customer')).toBe(madeAtOnce);
  const { id } = await create(stripe);
  expect(localStripe.world.store.count('customer')).toBe(1);
  expect((await stripe.customers.retrieve(id)).id).toBe(id);
});

it('is slow on order, and the SDK’s own retry after a lost answer makes one customer', async () => {
  const { localStripe, hook } = await localStripeWithClient();
  const retrying = clientOf(localStripe.port, { maxNetworkRetries: 2, timeout: 300 });
  await hook('/faults', { on: 'api', fault: { kind: 'timeout', effect: true } });
  const made = await retrying.customers.create({ name: 'A' });
  expect(made.lastResponse.headers['idempotent-replayed']).toBe('true');
  expect(localStripe.world.store.count('customer')).toBe(1);
});

it('refuses a fault that could never strike, and names a hook that is not there', async () => {
  const { localStripe, hook } = await localStripeWithClient();
  const { status, json } = await hook('/faults', {
    on: 'api',
    fault: { kind: 'timeout' },
    path: '/emails',
  });
  expect({ status, json }).toMatchObject({
    status: 400,
    json: { error: { message: expect.stringContaining('must begin with /v1/') } },
  });
  for (const path of ['/', '/clocks'])
    expect(await hook(path)).toMatchObject({
      status: 404,
      json: { error: { message: expect.stringContaining(`no hook GET /_sandbox${path}.`) } },
    });
  const elsewhere = await fetch(`${localStripe.url}/v1/coupons`);
  expect(elsewhere.status, 'Stripe asks for a key first').toBe(401);
});

it('faults can be called off', async () => {
  const { localStripe, stripe, hook } = await localStripeWithClient();
  await hook('/faults', { on: 'api', fault: { kind: 'garbage' }, times: 100 });
  expect((await hook('/faults')).json['api']).toHaveLength(1);
  await fetch(`${localStripe.url}/_sandbox/faults`, { method: 'DELETE' });
  expect((await create(stripe)).name).toBe('A');
});

it('forgets everything on reset but the webhook endpoints and their secrets', async () => {
  const { localStripe, stripe, hook } = await localStripeWithClient();
  const { id } = await stripe.webhookEndpoints.create({
    url: 'http://127.0.0.1:9/',
    enabled_events: ['price.created'],
  });
  await create(stripe);
  expect((await hook('/reset', {})).status).toBe(200);
  expect(localStripe.world.store.count('customer')).toBe(0);
  expect((await stripe.events.list()).data).toEqual([]);
  expect((await stripe.webhookEndpoints.list()).data.map((endpoint) => endpoint.id)).toEqual([id]);
  expect(localStripe.world.hidden.get('webhook_secret', id)).toBeDefined();
  await create(stripe);
  await eventually('a new customer under the old key', () => localStripe.world.store.count('customer') === 1);
});

it('hooks cannot be posted to by a form of a foreign page, nor under a foreign name', async () => {
  const { localStripe, stripe } = await localStripeWithClient();
  await create(stripe);
  for (const body of [null, '{}']) {
    const form = await fetch(`${localStripe.url}/_sandbox/reset`, { method: 'POST', body });
    expect(form.status).toBe(400);
  }
  expect(localStripe.world.store.count('customer')).toBe(1);
});

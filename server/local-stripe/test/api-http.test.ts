import { connect } from 'node:net';
import Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { eventually, localStripeWithClient, refusal } from './support/api.ts';

const KEY = { authorization: 'Bearer sk_test_123' };
const FORM = { ...KEY, 'content-type': 'application/x-www-form-urlencoded' };

describe('the door of the API', () => {
  it('takes a test key as Bearer or Basic and refuses anything else with 401', async () => {
    const { localStripe } = await localStripeWithClient();
    const status = async (authorization?: string) =>
      (await fetch(`${localStripe.url}/v1/customers`, { headers: authorization ? { authorization } : {} }))
        .status;
    expect(await status('Bearer sk_test_abc')).toBe(200);
    expect(await status(`Basic ${btoa('rk_test_abc:')}`)).toBe(200);
    expect(await status()).toBe(401);
    expect(await status('Bearer nonsense')).toBe(401);
    expect(await status('Bearer pk_test_abc')).toBe(401);
  });

  it('refuses a live key with a message that says so, and never repeats it', async () => {
    const { localStripe } = await localStripeWithClient();
    const stripe = new Stripe('sk_live_realsecret', {
      host: '127.0.0.1',
      port: localStripe.port,
      protocol: 'http',
    });
    const error = await refusal(stripe.customers.list());
    expect(error).toBeInstanceOf(Stripe.errors.StripeAuthenticationError);
    expect(error.message).toContain('live API key');
    expect(error.message).not.toContain('realsecret');
  });

  it('gives every answer that is not 2xx an error member', async () => {
    const { localStripe } = await localStripeWithClient();
    const asked: [string, RequestInit][] = [
      ['/v1/nope', { headers: KEY }],
      ['/v1/customers/cus_%zz', { headers: KEY }],
      ['/v1/customers', { method: 'OPTIONS', headers: KEY }],
      ['/v1/customers', { method: 'PUT', headers: KEY }],
      [
        '/v1/customers',
        { method: 'POST', headers: { ...KEY, 'content-type': 'application/json' }, body: '{"a":' },
      ],
      ['/v1/customers', { method: 'POST', headers: FORM, body: `description=${'x'.repeat(2_000_000)}` }],
      ['/v1/customers', { method: 'POST', headers: FORM, body: `a${'[b]'.repeat(50)}=1` }],
      ['/v1/customers', { method: 'POST', headers: FORM, body: 'x&'.repeat(10_000) }],
      ['/_sandbox/clock', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' }],
      ['/_sandbox/reset', { method: 'POST' }],
      ['/_sandbox/nope', {}],
    ];
    for (const [path, init] of asked) {
      const answer = await fetch(`${localStripe.url}${path}`, init);
      expect(answer.status, path).toBeGreaterThanOrEqual(400);
      expect(await answer.json(), path).toMatchObject({
        error: { type: expect.any(String), message: expect.any(String) },
      });
    }
    expect((await fetch(`${localStripe.url}/v1/customers`, { headers: KEY })).status).toBe(200);
  });

  it('answers bytes that are not HTTP, OPTIONS * and endless headers, and goes on', async () => {
    const { localStripe } = await localStripeWithClient();
    for (const bytes of [
      'garbage\r\n\r\n',
      'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`,
      'POST /v1/customers HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n',
    ]) {
      const answer = await raw(localStripe.port, bytes);
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      expect(answer).toContain('{"error":{');
    }
    expect((await fetch(`${localStripe.url}/v1/customers`, { headers: KEY })).status).toBe(200);
  });

  it('refuses unknown, missing and ill-typed parameters in Stripe’s words', async () => {
    const { stripe } = await localStripeWithClient();
    const product = await stripe.products.create({ name: 'Plan' });
    const post = (body: object) => refusal(stripe.rawRequest('POST', '/v1/prices', body));
    expect(await post({ currency: 'usd', recurring: { intervall: 'month' } })).toMatchObject({
      code: 'parameter_unknown',
      param: 'recurring[intervall]',
      message: 'Received unknown parameter: recurring[intervall]',
    });
    expect(await post({ product: product.id, unit_amount: 1 })).toMatchObject({
      code: 'parameter_missing',
      param: 'currency',
      message: 'Missing required param: currency.',
    });
    expect(await post({ currency: 'usd', product: product.id, unit_amount: '1.5' })).toMatchObject({
      code: 'parameter_invalid_integer',
      param: 'unit_amount',
    });
    expect(
      await post({
        currency: 'usd',
        product: product.id,
        unit_amount: 1,
        recurring: { interval: 'fortnight' },
      }),
    ).toMatchObject({
      param: 'recurring[interval]',
      message: 'Invalid recurring[interval]: must be one of day, week, month, or year',
    });
    expect(await post({ currency: 'usd', product: 'prod_x', unit_amount: 1 })).toMatchObject({
      code: 'resource_missing',
      statusCode: 400,
      param: 'product',
      message: "No such product: 'prod_x'",
    });
    expect(await refusal(stripe.customers.retrieve('cus_x'))).toMatchObject({ statusCode: 404, param: 'id' });
  });

  it('keeps, merges and removes metadata, keys of the language included', async () => {
    const { stripe } = await localStripeWithClient();
    const made = await stripe.customers.create({ metadata: { a: '1', toString: 'x', constructor: 'y' } });
    expect(made.metadata).toEqual({ a: '1', toString: 'x', constructor: 'y' });
    const merged = await stripe.customers.update(made.id, { metadata: { a: '', b: '2' } });
    expect(merged.metadata).toEqual({ b: '2', toString: 'x', constructor: 'y' });
    const cleared = await stripe.customers.update(made.id, { metadata: '' });
    expect(cleared.metadata).toEqual({});
  });
});

describe('lists', () => {
  it('are newest first, with cursors both ways and has_more', async () => {
    const { stripe } = await localStripeWithClient();
    const ids: string[] = [];
    for (let i = 0; i < 25; i++)
      ids.unshift((await stripe.customers.create({ email: `${i}@example.com` })).id);
    const first = await stripe.customers.list();
    expect(first.data.map(({ id }) => id)).toEqual(ids.slice(0, 10));
    expect(first.has_more).toBe(true);
    const last = await stripe.customers.list({ limit: 100, starting_after: String(ids[19]) });
    expect(last.data.map(({ id }) => id)).toEqual(ids.slice(20));
    expect(last.has_more).toBe(false);
    const before = await stripe.customers.list({ limit: 3, ending_before: String(ids[10]) });
    expect(before.data.map(({ id }) => id)).toEqual(ids.slice(7, 10));
    expect(before.has_more).toBe(true);
    const seen: string[] = [];
    for await (const { id } of stripe.customers.list({ limit: 7 })) seen.push(id);
    expect(seen).toEqual(ids);
    expect((await stripe.customers.list({ email: '3@example.com' })).data).toHaveLength(1);
    expect((await stripe.customers.list({ created: { gt: 9_999_999_999 } })).data).toHaveLength(0);
    expect(await refusal(stripe.customers.list({ limit: 101 }))).toMatchObject({ param: 'limit' });
    expect(await refusal(stripe.customers.list({ starting_after: 'cus_x' }))).toMatchObject({
      code: 'resource_missing',
      param: 'starting_after',
    });
  });

  it('of one type of events, or of one customer, go on after a cursor of another', async () => {
    const { stripe } = await localStripeWithClient();
    const ids: string[] = [];
    for (const name of ['a', 'b']) {
      const { id: customer } = await stripe.customers.create({ name });
      await stripe.products.create({ name });
      await stripe.setupIntents.create({ customer });
      ids.push(customer);
    }
    const types = async (params: Stripe.EventListParams) =>
      (await stripe.events.list(params)).data.map(({ type }) => type);
    expect(await types({ type: 'product.created' })).toEqual(['product.created', 'product.created']);
    const [latest] = (await stripe.events.list({ type: 'customer.created' })).data;
    const after = { type: 'product.created', starting_after: String(latest?.id) };
    expect(await types(after)).toEqual(['product.created']);
    expect(await types({ type: 'product.*' })).toHaveLength(2);
    const [newer] = (await stripe.setupIntents.list()).data;
    const older = await stripe.setupIntents.list({
      customer: String(ids[0]),
      starting_after: String(newer?.id),
    });
    expect(older.data.map(({ customer }) => customer)).toEqual([ids[0]]);
  });

  it('go on after a cursor that was deleted meanwhile as Stripe does: deleted customers are skipped', async () => {
    const { stripe } = await localStripeWithClient();
    const [older, gone] = [await stripe.customers.create(), await stripe.customers.create()];
    await stripe.customers.del(gone.id);
    const rest = await stripe.customers.list({ starting_after: gone.id });
    expect(rest.data.map(({ id }) => id)).toEqual([older.id]);
    expect(await stripe.customers.retrieve(gone.id)).toMatchObject({ id: gone.id, deleted: true });
  });
});

describe('expand', () => {
  it('replaces ids by objects, in lists too, and refuses what cannot be expanded', async () => {
    const { stripe } = await localStripeWithClient();
    const product = await stripe.products.create({
      name: 'Plan',
      default_price_data: { currency: 'usd', unit_amount: 100 },
      expand: ['default_price.product'],
    });
    expect(product.default_price).toMatchObject({
      object: 'price',
      product: { id: product.id, object: 'product' },
    });
    const prices = await stripe.prices.list({ expand: ['data.product'] });
    expect(prices.data[0]?.product).toMatchObject({ name: 'Plan' });
    expect((await stripe.prices.list()).data[0]?.product).toBe(product.id);
    expect(await refusal(stripe.products.retrieve(product.id, { expand: ['nope'] }))).toMatchObject({
      param: 'expand',
      statusCode: 400,
    });
  });
});

describe('idempotency keys', () => {
  it('replay the first answer, and nothing happens twice', async () => {
    const { stripe } = await localStripeWithClient();
    const once = await stripe.customers.create({ email: 'a@example.com' }, { idempotencyKey: 'k1' });
    const twice = await stripe.customers.create({ email: 'a@example.com' }, { idempotencyKey: 'k1' });
    expect(twice.id).toBe(once.id);
    expect(once.lastResponse.headers['idempotent-replayed']).toBeUndefined();
    expect(twice.lastResponse.headers['idempotent-replayed']).toBe('true');
    expect((await stripe.customers.list()).data).toHaveLength(1);
    expect((await stripe.events.list({ type: 'customer.created' })).data).toHaveLength(1);
  });

  it('are refused for other parameters and for another endpoint', async () => {
    const { stripe } = await localStripeWithClient();
    await stripe.customers.create({ email: 'a@example.com' }, { idempotencyKey: 'k1' });
    const other = await refusal(
      stripe.customers.create({ email: 'b@example.com' }, { idempotencyKey: 'k1' }),
    );
    expect(other).toBeInstanceOf(Stripe.errors.StripeIdempotencyError);
    expect(await refusal(stripe.products.create({ name: 'x' }, { idempotencyKey: 'k1' }))).toMatchObject({
      statusCode: 400,
      rawType: 'idempotency_error',
    });
  });

  it('replay a decline with what it left behind, and keep no refusal of bad parameters', async () => {
    const { stripe } = await localStripeWithClient();
    const pay = () =>
      refusal(
        stripe.paymentIntents.create(
          { amount: 500, currency: 'usd', confirm: true, payment_method: 'pm_card_chargeDeclined' },
          { idempotencyKey: 'k1' },
        ),
      );
    const [first, second] = [await pay(), await pay()];
    expect(first).toMatchObject({ statusCode: 402, code: 'card_declined', decline_code: 'generic_decline' });
    expect(second.payment_intent).toEqual(first.payment_intent);
    expect(second.headers?.['idempotent-replayed']).toBe('true');
    expect((await stripe.charges.list()).data).toHaveLength(1);
    const bad = { nme: 'x' } as unknown as Stripe.ProductCreateParams;
    expect(await refusal(stripe.products.create(bad, { idempotencyKey: 'k2' }))).toMatchObject({
      statusCode: 400,
    });
    expect(await stripe.products.create({ name: 'x' }, { idempotencyKey: 'k2' })).toMatchObject({
      name: 'x',
    });
  });

  it('answer 409 while the first request is still in progress', async () => {
    const { localStripe, stripe, hook } = await localStripeWithClient();
    await hook('/faults', { on: 'api', fault: { kind: 'latency', ms: 500 }, path: '/v1/customers' });
    const slow = stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k1' });
    await eventually(
      'the slow request has begun',
      () => localStripe.world.hidden.all('api_fault').length === 0,
    );
    const meanwhile = await refusal(stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k1' }));
    expect(meanwhile).toMatchObject({ statusCode: 409, code: 'idempotency_key_in_use' });
    const { id } = await slow;
    expect((await stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k1' })).id).toBe(id);
  });

  it('are remembered in the transaction of the effect, a decline’s too: one is not there without the other', async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const { hidden } = localStripe.world;
    const put = hidden.put;
    hidden.put = (name, id, value) => {
      if (name === 'idempotency') throw new Error('the disk is full');
      put(name, id, value);
    };
    const make = (method: string) =>
      refusal(
        stripe.paymentIntents.create(
          { amount: 500, currency: 'usd', confirm: true, payment_method: method },
          { idempotencyKey: method },
        ),
      );
    expect(await make('pm_card_visa')).toMatchObject({ statusCode: 500 });
    expect(await make('pm_card_chargeDeclined')).toMatchObject({ statusCode: 500 });
    expect((await stripe.charges.list()).data).toEqual([]);
    expect((await stripe.events.list()).data).toEqual([]);
  });

  it('are forgotten after 24 hours', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const once = await stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k1' });
    await hook('/clock', { skipSeconds: 24 * 3_600 });
    expect((await stripe.customers.create({ name: 'A' }, { idempotencyKey: 'k1' })).id).not.toBe(once.id);
  });
});

function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      answer += chunk;
      if (answer.includes('}}')) socket.end();
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', (error) => (answer === '' ? reject(error) : resolve(answer)));
  });
}

import { request } from 'node:http';
import Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEventStore } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

const SECRET = 'whsec_0123456789abcdef';
const stripe = new Stripe('sk_test_0123456789');
let http: TestHttp;

beforeAll(async () => {
  let taken: TestHttp | undefined;
  http = await startHttp({
    webhooks: {
      takeIn: async (delivery) => {
        if (!taken) throw new Error('Nothing can be delivered before the start');
        const clock = { now: () => new Date() };
        const events = createEventStore(taken.db);
        return await takeIn({ events, clock, secrets: [SECRET], livemode: false }, delivery);
      },
    },
  });
  taken = http;
});
afterAll(() => http.close());

const event = (id: string, padding = '') =>
  JSON.stringify(
    {
      id,
      object: 'event',
      api_version: '2026-10-28.endive',
      created: Math.floor(Date.now() / 1000),
      livemode: false,
      type: 'customer.subscription.updated',
      data: { object: { id: 'sub_1', object: 'subscription', customer: 'cus_1', metadata: { padding } } },
    },
    null,
    2,
  );

const sign = (payload: string, options: { secret?: string; timestamp?: number } = {}) =>
  stripe.webhooks.generateTestHeaderString({
    payload,
    secret: SECRET,
    timestamp: Math.floor(Date.now() / 1000),
    ...options,
  });

const deliver = (body: string, headers: Record<string, string>) =>
  http.call('/webhooks/stripe', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });

const stored = async () => {
  const { rows } = await http.db.pool.query<{ id: string }>('select id from stripe_event order by id');
  return rows.map(({ id }) => id);
};

it('acknowledges a signed event once it is stored, byte for byte, and once more when it comes again', async () => {
  const body = event('evt_door_1');
  for (const _ of [1, 2]) {
    const response = await deliver(body, { 'stripe-signature': sign(body) });
    expect(response.status).toBe(200);
  }
  const { rows } = await http.db.pool.query<{ raw: Buffer }>(
    "select raw from stripe_event where id = 'evt_door_1'",
  );
  expect(rows.map(({ raw }) => raw.toString())).toEqual([body]);
  const metrics = await (await http.call('/metrics')).text();
  expect(metrics).toContain('driftstack_stripe_events_total{result="stored"} 1');
  expect(metrics).toContain('driftstack_stripe_events_total{result="duplicate"} 1');
});

it('takes bodies up to 1 MiB, which the API would not', async () => {
  const body = event('evt_door_large', 'x'.repeat(900_000));
  expect((await deliver(body, { 'stripe-signature': sign(body) })).status).toBe(200);
});

describe('stores nothing and refuses', () => {
  const now = () => Math.floor(Date.now() / 1000);
  const body = event('evt_door_refused');
  it.each<[string, number, string, () => Record<string, string>]>([
    ['a missing signature', 400, body, () => ({})],
    ['a wrong signature', 400, body, () => ({ 'stripe-signature': sign(body, { secret: 'whsec_another' }) })],
    ['a stale one', 400, body, () => ({ 'stripe-signature': sign(body, { timestamp: now() - 301 }) })],
    [
      'one from the future',
      400,
      body,
      () => ({ 'stripe-signature': sign(body, { timestamp: now() + 400 }) }),
    ],
    ['an altered body', 400, `${body} `, () => ({ 'stripe-signature': sign(body) })],
    ['an empty body', 400, '', () => ({ 'stripe-signature': sign('') })],
    ['a signed null', 400, 'null', () => ({ 'stripe-signature': sign('null') })],
    ['a signature that is none', 400, body, () => ({ 'stripe-signature': 'v1=' })],
    ['another type', 415, body, () => ({ 'stripe-signature': sign(body), 'content-type': 'text/plain' })],
    ['a compressed body', 415, body, () => ({ 'stripe-signature': sign(body), 'content-encoding': 'gzip' })],
    ['more than 1 MiB', 413, 'x'.repeat(1024 * 1024 + 1), () => ({ 'stripe-signature': 't=1,v1=x' })],
  ])('%s with %i', async (_what, status, payload, headers) => {
    const before = await stored();
    const response = await deliver(payload, headers());
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await stored()).toEqual(before);
  });

  it('two Stripe-Signature headers, even if both are good', async () => {
    const before = await stored();
    const status = await new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      const sent = request(`${http.url}/webhooks/stripe`, { method: 'POST', headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject);
      sent.setHeader('stripe-signature', [sign(body), sign(body)]);
      sent.end(body);
    });
    expect(status).toBe(400);
    expect(await stored()).toEqual(before);
  });

  it('any other method', async () => {
    const response = await http.call('/webhooks/stripe');
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST');
  });
});

it('answers 5xx when the event could not be stored, so that Stripe delivers again', async () => {
  const failing = await startHttp({
    webhooks: {
      takeIn: async () => {
        throw new Error('relation stripe_event is not there');
      },
    },
  });
  try {
    const response = await failing.call('/webhooks/stripe', { json: {} });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('relation');
  } finally {
    await failing.close();
  }
});

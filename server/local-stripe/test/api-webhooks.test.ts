import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Stripe from 'stripe';
import { describe, expect, it, onTestFinished } from 'vitest';
import { startLocalStripe } from '../local-stripe.ts';
import {
  clientOf,
  eventually,
  hookOf,
  localStripeWithClient,
  type Received,
  receiver,
} from './support/api.ts';

async function endpointFor(
  stripe: Stripe,
  url: string,
  events: string[] = ['*'],
): Promise<Stripe.WebhookEndpoint> {
  return stripe.webhookEndpoints.create({
    url,
    // The SDK names every event; these tests pass some as plain strings.
    enabled_events: events as Stripe.WebhookEndpointCreateParams.EnabledEvent[],
    api_version: '2026-10-28.endive' as Stripe.WebhookEndpointCreateParams.ApiVersion,
  });
}

const typesOf = (received: readonly Received[]): string[] =>
  received.map(({ body }) => JSON.parse(body).type);
const namesOf = (received: readonly Received[]): string[] =>
  received.map(({ body }) => JSON.parse(body).data.object.name);

describe('webhooks', () => {
  it('are signed over the raw bytes with the endpoint’s secret, which is shown once', async () => {
    const { stripe } = await localStripeWithClient();
    const { url, received } = await receiver();
    const endpoint = await endpointFor(stripe, url, ['customer.created']);
    expect(endpoint.secret).toMatch(/^whsec_[A-Za-z0-9]{32}$/);
    expect((await stripe.webhookEndpoints.retrieve(endpoint.id)).secret).toBeUndefined();
    const customer = await stripe.customers.create({ name: 'Zoë' });
    await stripe.customers.update(customer.id, { name: 'Z' });
    await eventually('delivered', () => received.length === 1);
    const [{ headers, body } = { headers: {}, body: '' }] = received;
    const event = stripe.webhooks.constructEvent(
      body,
      String(headers['stripe-signature']),
      String(endpoint.secret),
    );
    expect(event).toMatchObject({
      type: 'customer.created',
      api_version: '2026-10-28.endive',
      pending_webhooks: 1,
      data: { object: { id: customer.id, name: 'Zoë' } },
      request: { id: customer.lastResponse.requestId },
    });
    await eventually('settled', async () => (await stripe.events.retrieve(event.id)).pending_webhooks === 0);
    expect((await stripe.events.list({ delivery_success: false })).data).toHaveLength(0);
  });

  it('arrive in order, and a hanging endpoint does not hold up another', async () => {
    const { stripe } = await localStripeWithClient();
    const good = await receiver();
    const hanging = await receiver(() => null);
    await endpointFor(stripe, hanging.url);
    await endpointFor(stripe, good.url);
    for (let i = 0; i < 30; i++) await stripe.customers.create({ name: String(i) });
    await eventually('all delivered', () => good.received.length === 30);
    expect(namesOf(good.received).map(Number)).toEqual(Array.from({ length: 30 }, (_, i) => i));
    expect(hanging.received.length).toBeLessThanOrEqual(8);
  });

  it('are tried again with a fresh signature when the local Stripe’s clock comes to it, in vain for three days', async () => {
    let now = 1_800_000_000_000;
    const { localStripe, stripe, hook } = await localStripeWithClient({ clock: () => now });
    let healthy = false;
    const { url, received } = await receiver(() => (healthy ? 200 : 500));
    const { secret } = await endpointFor(stripe, url);
    await stripe.customers.create({ name: 'first' });
    await eventually('tried once', () => received.length === 1);
    const delivery = async () =>
      (Object((await hook('/deliveries')).json)['data'] as Record<string, unknown>[]).at(-1) ?? {}; // the hook's shape
    for (const [tries, seconds] of [1, 5, 30, 300].entries()) {
      await eventually(
        'settled',
        async () => Array.isArray((await delivery())['tries']) && (await delivery())['dueMs'] !== null,
      );
      expect(received).toHaveLength(tries + 1);
      now += seconds * 1_000;
      await hook('/clock', { skipSeconds: 0 });
      await eventually('tried again', () => received.length === tries + 2);
    }
    const stamps = received.map(({ headers }) => String(headers['stripe-signature']).slice(2, 12));
    expect(new Set(stamps).size).toBe(5);
    const last = received.at(-1);
    stripe.webhooks.constructEvent(
      String(last?.body),
      String(last?.headers['stripe-signature']),
      String(secret),
      300,
      undefined,
      now,
    );
    healthy = true;
    await stripe.customers.create({ name: 'second' });
    await eventually('the second is not held up by the first', () => namesOf(received).includes('second'));
    healthy = false;
    for (let i = 0; i < 10; i++) {
      await eventually('idle', async () => (await hook('/deliveries/wait', {})).json['idle'] === true);
      now += 86_400_000;
      await hook('/clock', { skipSeconds: 0 });
    }
    await eventually('given up', async () => (await delivery())['status'] === 'failed');
    expect(received.filter(({ body }) => JSON.parse(body).data.object.name === 'first')).toHaveLength(11);
    expect(localStripe.world.now()).toBe(Math.floor(now / 1_000));
  });

  it('stop for a disabled endpoint and can be sent again one by one', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const { url, received } = await receiver();
    const endpoint = await endpointFor(stripe, url);
    await stripe.customers.create({ name: 'A' });
    await eventually('delivered', () => received.length === 1);
    await stripe.webhookEndpoints.update(endpoint.id, { disabled: true });
    await stripe.customers.create({ name: 'B' });
    await stripe.webhookEndpoints.update(endpoint.id, { disabled: false });
    const [delivery] = Object((await hook('/deliveries')).json)['data'];
    expect((await hook(`/deliveries/${delivery.id}/resend`, {})).json).toMatchObject({ status: 'pending' });
    await eventually('sent again', () => received.length === 2);
    expect(namesOf(received)).toEqual(['A', 'A']);
    expect((await hook('/deliveries/dlv_x/resend', {})).status).toBe(404);
    const [event] = (await stripe.events.list({ type: 'customer.created' })).data;
    await stripe.rawRequest('POST', `/v1/events/${event?.id}/retry`, { webhook_endpoint: endpoint.id });
    await eventually('retried', () => received.length === 3);
    expect(namesOf(received).at(-1)).toBe('B');
  });

  it('survive a restart: what was pending is delivered by the next process', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'local-stripe-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const dataPath = join(directory, 'stripe.db');
    let healthy = false;
    const { url, received } = await receiver(() => (healthy ? 200 : 503));
    const first = await startLocalStripe({ port: 0, dataPath });
    const stripe = clientOf(first.port);
    const { secret } = await endpointFor(stripe, url);
    const { id } = await stripe.customers.create({ name: 'A' });
    await eventually('tried', () => received.length === 1);
    await first.close();
    healthy = true;
    const { stripe: again } = await localStripeWithClient({ dataPath });
    await eventually('delivered', () => received.length === 2);
    const { body, headers } = received[1] ?? { body: '', headers: {} };
    const event = stripe.webhooks.constructEvent(body, String(headers['stripe-signature']), String(secret));
    expect(event.data.object).toMatchObject({ id });
    expect(await again.customers.retrieve(id)).toMatchObject({ name: 'A' });
  });
});

describe('webhook faults', () => {
  const setUp = async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const { url, received } = await receiver();
    const { secret } = await endpointFor(stripe, url, ['customer.created']);
    const hook = hookOf(localStripe.url);
    const order = (fault: object, rest: object = {}) => hook('/faults', { on: 'webhooks', fault, ...rest });
    return { stripe, received, secret: String(secret), hook, order };
  };

  it('drop one and duplicate one', async () => {
    const { stripe, received, order } = await setUp();
    await order({ kind: 'drop' });
    await order({ kind: 'duplicate' });
    for (const name of ['A', 'B', 'C']) await stripe.customers.create({ name });
    await eventually('delivered', () => received.length === 3);
    expect(namesOf(received).sort()).toEqual(['B', 'B', 'C']);
    const ids = received.map(({ body }) => JSON.parse(body).id);
    expect(new Set(ids).size).toBe(2);
  });

  it('reorder: one arrives after its successor', async () => {
    const { stripe, received, order } = await setUp();
    await order({ kind: 'reorder' });
    await stripe.customers.create({ name: 'A' });
    await stripe.customers.create({ name: 'B' });
    await eventually('delivered', () => received.length === 2, 8_000);
    expect(namesOf(received)).toEqual(['B', 'A']);
  });

  it('delay: one arrives when the clock has moved', async () => {
    const { stripe, received, order, hook } = await setUp();
    await order({ kind: 'delay', seconds: 3_600 }, { types: ['customer.created'] });
    await stripe.customers.create({ name: 'A' });
    await stripe.customers.create({ name: 'B' });
    await eventually('delivered', () => received.length === 1);
    await hook('/clock', { skipSeconds: 3_600 });
    await eventually('delivered late', () => received.length === 2);
    expect(namesOf(received)).toEqual(['B', 'A']);
  });

  it('bad signature: the first try does not verify, the next does', async () => {
    const { stripe, received, order, secret, hook } = await setUp();
    await order({ kind: 'bad_signature' });
    await stripe.customers.create({ name: 'A' });
    await eventually('delivered', () => received.length === 1);
    const verify = ({ body, headers }: Received) =>
      stripe.webhooks.constructEvent(body, String(headers['stripe-signature']), secret);
    expect(() => received.map(verify)).toThrow(/signature/i);
    await hook('/deliveries/wait', {});
    const [delivery] = Object((await hook('/deliveries')).json)['data'];
    await hook(`/deliveries/${delivery.id}/resend`, {});
    await eventually('sent again', () => received.length === 2);
    expect(received.slice(1).map(verify)).toMatchObject([{ type: 'customer.created' }]);
    expect(typesOf(received)).toEqual(['customer.created', 'customer.created']);
  });

  it('are refused with a clear message when they make no sense', async () => {
    const { order } = await setUp();
    expect(await order({ kind: 'explode' })).toMatchObject({
      status: 400,
      json: { error: { param: 'fault.kind' } },
    });
    expect(await order({ kind: 'drop' }, { times: 0 })).toMatchObject({
      status: 400,
      json: { error: { message: expect.stringContaining('times') } },
    });
  });
});

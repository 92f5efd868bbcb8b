import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import { EVENT_TYPES, type EventType, webhookBodySchema } from '../../shared/events.ts';
import { verifyWebhookSignature } from '../../shared/webhook-signature.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { NOW } from '../support/stripe.ts';
import { openWebhookBench, type Received, type Receiver, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;
let caller: WebhookCaller;
let receiver: Receiver;

beforeEach(async () => {
  bench = await openWebhookBench();
  caller = await bench.addAccount();
  receiver = await bench.receiver();
});
afterEach(() => bench.close());

const register = (events: readonly EventType[] = EVENT_TYPES, url = receiver.url) =>
  bench.use.create(caller, { url, events: [...events], description: null });
const NOTHING: Received = { path: '', headers: {}, body: '' };
const idOf = ({ body }: Received): string => JSON.parse(body).id;
const deliveries = async (id: string) =>
  (await bench.use.listDeliveries(caller.accountId, { id, limit: 100 })).data;
const newest = async (id: string) => (await deliveries(id))[0];
const got = (count: number, from = receiver) => untilTrue(() => from.received.length >= count);
/** Another account's delivery arrives: a sign that the dispatcher has looked at the time and the rows of now. */
const elsewhere = async () => {
  const other = await bench.addAccount();
  const theirs = await bench.receiver();
  await bench.use.create(other, { url: theirs.url, events: [...EVENT_TYPES], description: null });
  await bench.tell(other.accountId);
  await got(1, theirs);
};
/** The last try is written down, whatever came of it. */
const settled = (id: string, attempts: number) =>
  untilTrue(async () => {
    const last = await newest(id);
    return last?.attempts === attempts && last.status !== 'in_flight';
  });

test('all four events arrive, and both ways to verify them accept each', async () => {
  const { secret, id } = await register();
  bench.dispatch();
  for (const type of EVENT_TYPES) await bench.tell(caller.accountId, type);
  await got(4);
  for (const [at, { headers, body }] of receiver.received.entries()) {
    const { type, id: eventId } = webhookBodySchema.parse(JSON.parse(body));
    expect(type).toBe(EVENT_TYPES[at]);
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'x-driftstack-event-id': eventId,
      'x-driftstack-event-type': type,
      'x-driftstack-event-sequence': String(at + 1),
    });
    const text = (name: string) => String(headers[name]);
    const standard = {
      'webhook-id': text('webhook-id'),
      'webhook-timestamp': text('webhook-timestamp'),
      'webhook-signature': text('webhook-signature'),
    };
    const { now } = bench.time;
    for (const header of [text('x-driftstack-signature'), standard])
      expect(await verifyWebhookSignature({ body, header, secret, now })).toBe(true);
    // The package reads the clock of the machine, so its own signature is compared.
    const at1 = new Date(Number(standard['webhook-timestamp']) * 1000);
    expect(new Webhook(secret).sign(standard['webhook-id'], at1, body)).toBe(standard['webhook-signature']);
    expect(headers).not.toHaveProperty('authorization');
  }
  await settled(id, 1);
  expect(await newest(id)).toMatchObject({
    status: 'delivered',
    response_status: 200,
    response_excerpt: 'ok',
    error: null,
  });
  const endpoint = await bench.use.get(caller.accountId, { id });
  expect(endpoint).toMatchObject({
    consecutive_failures: 0,
    delivery_counts: { delivered: 4, failed: 0, dlq: 0 },
  });
  expect(endpoint.last_success_at).toBe('2026-05-10T12:00:00Z');
});

test('only the events an endpoint asked for are sent to it, and only those of its account', async () => {
  await register(['trial_pack.expired']);
  const other = await bench.addAccount();
  bench.dispatch();
  await bench.tell(other.accountId, 'trial_pack.expired');
  await bench.tell(caller.accountId, 'subscription.changed');
  await bench.tell(caller.accountId, 'trial_pack.expired');
  await got(1);
  expect(receiver.received.map(({ body }) => JSON.parse(body))).toMatchObject([
    { type: 'trial_pack.expired', account_id: `acc_${caller.accountId}` },
  ]);
});

test('a healthy endpoint is sent everything in order, whatever its answers take, by two dispatchers', async () => {
  await register();
  receiver.answer((_got, response) => void setTimeout(() => response.end(), Math.random() * 8));
  bench.dispatch();
  bench.dispatch();
  for (let i = 0; i < 60; i += 1) await bench.tell(caller.accountId);
  await got(60);
  const { data } = await bench.use.listEvents(caller.accountId, { after: 0, limit: 100 });
  expect(receiver.received.map(idOf)).toEqual(data.map(({ id }) => id));
});

test('what fails is tried at 0, 1, 5, 15, 30 and 60 minutes with the same event id and a fresh time, then given up', async () => {
  const { id, secret } = await register();
  receiver.answer(500);
  const outcomes: string[] = [];
  bench.dispatch({ onAttempt: (outcome) => outcomes.push(outcome) });
  await bench.tell(caller.accountId);
  for (const [at, minutes] of [1, 5, 15, 30, 60].entries()) {
    await settled(id, at + 1);
    const due = new Date(bench.time.now.getTime() + minutes * 60_000).toISOString().replace('.000', '');
    expect(await newest(id)).toMatchObject({ status: 'failed', response_status: 500, next_attempt_at: due });
    bench.pass(minutes);
  }
  await settled(id, 6);
  expect(await newest(id)).toMatchObject({
    status: 'dlq',
    next_attempt_at: null,
    response_excerpt: 'answer 500',
    error: 'The answer was 500, not 2xx.',
  });
  await untilTrue(() => outcomes.length === 6);
  expect(outcomes).toEqual([...Array(5).fill('failed'), 'dlq']);
  reached('a delivery is given up after its last try');
  bench.pass(24 * 60);
  expect(receiver.received).toHaveLength(6);
  expect(new Set(receiver.received.map(idOf)).size).toBe(1);
  expect(new Set(receiver.received.map(({ headers }) => headers['webhook-timestamp'])).size).toBe(6);
  const [last] = receiver.received.slice(-1);
  expect(
    await verifyWebhookSignature({
      body: last?.body ?? '',
      header: String(last?.headers['x-driftstack-signature']),
      secret,
      now: new Date(bench.time.now.getTime() - 24 * 3_600_000),
    }),
  ).toBe(true);
  expect(await bench.use.get(caller.accountId, { id })).toMatchObject({
    consecutive_failures: 6,
    delivery_counts: { delivered: 0, failed: 0, dlq: 1 },
  });
});

test('a try is not made before its time', async () => {
  const { id } = await register();
  receiver.answer(500);
  bench.dispatch();
  await bench.tell(caller.accountId);
  await settled(id, 1);
  bench.pass(0.9);
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
  // Something newer makes the endpoint due, and not what waits.
  receiver.answer(200);
  await bench.tell(caller.accountId);
  await got(2);
  await elsewhere();
  expect(new Set(receiver.received.map(idOf)).size).toBe(2);
  expect(receiver.received).toHaveLength(2);
  bench.pass(0.2);
  await got(3);
  expect(new Set(receiver.received.map(idOf)).size).toBe(2);
});

test('Retry-After holds the whole endpoint until then', async () => {
  const { id } = await register();
  receiver.answer(429, { 'retry-after': '600' });
  bench.dispatch();
  await bench.tell(caller.accountId);
  await settled(id, 1);
  expect(await newest(id)).toMatchObject({ next_attempt_at: '2026-05-10T12:10:00Z' });
  receiver.answer(200);
  await bench.tell(caller.accountId);
  bench.pass(9);
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
  reached('an endpoint asks for time, and news wait as well');
  bench.pass(2);
  await got(3);
});

const mails = async () =>
  (
    await bench.db.pool.query<{ template: string; data: string }>(
      'select template, data::text as data from email',
    )
  ).rows;

test('410 pauses an endpoint with a mail; its events are kept and sent in order once it is active again', async () => {
  const { id } = await register();
  receiver.answer(410);
  bench.dispatch();
  await bench.tell(caller.accountId);
  await untilTrue(async () => !(await bench.use.get(caller.accountId, { id })).active);
  expect(await mails()).toEqual([
    { template: 'webhook_endpoint_paused', data: expect.stringContaining('"reason": "gone"') },
  ]);
  await bench.tell(caller.accountId, 'subscription.cancelled');
  await bench.tell(caller.accountId, 'trial_pack.expired');
  bench.pass(60);
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
  reached('an endpoint is paused by its answer 410, with deliveries due');
  receiver.answer(200);
  receiver.received.length = 0;
  const resumed = await bench.use.update(caller, { id, active: true });
  expect(resumed).toMatchObject({ active: true, disabled_at: null, consecutive_failures: 0 });
  await got(3);
  expect(receiver.received.map(({ body }) => JSON.parse(body).type)).toEqual([
    'subscription.changed',
    'subscription.cancelled',
    'trial_pack.expired',
  ]);
});

test('five days without one success pause an endpoint with a mail, and one success starts them anew', async () => {
  const { id } = await register();
  bench.dispatch();
  const fail = async () => {
    receiver.answer(500);
    await bench.tell(caller.accountId);
    await settled(id, 1);
  };
  await fail();
  bench.pass(4.9 * 24 * 60);
  receiver.answer(200);
  await untilTrue(async () => (await deliveries(id)).every(({ status }) => status === 'delivered'));
  await fail();
  bench.pass(4.9 * 24 * 60);
  await fail();
  expect((await bench.use.get(caller.accountId, { id })).active).toBe(true);
  bench.pass(0.2 * 24 * 60);
  await untilTrue(async () => !(await bench.use.get(caller.accountId, { id })).active);
  expect(await mails()).toEqual([
    { template: 'webhook_endpoint_paused', data: expect.stringContaining('"reason": "failing"') },
  ]);
  reached('an endpoint is paused after five days without a success');
  expect(await deliveries(id)).not.toContainEqual(expect.objectContaining({ status: 'in_flight' }));
});

test('a rotated secret signs beside the new one for 24 hours, and no longer', async () => {
  const { id, secret: old } = await register();
  const { secret, prev_secret_prefix, rotation_grace_expires_at } = await bench.use.rotateSecret(caller, {
    id,
  });
  expect(secret).not.toBe(old);
  expect(prev_secret_prefix).toBe(old.slice(0, 10));
  expect(rotation_grace_expires_at).toBe('2026-05-11T12:00:00Z');
  bench.dispatch();
  const verdicts = async (count: number) => {
    await bench.tell(caller.accountId);
    await got(count);
    const { body, headers } = receiver.received[count - 1] ?? NOTHING;
    const header = String(headers['x-driftstack-signature']);
    const { now } = bench.time;
    return await Promise.all(
      [secret, old].map((one) => verifyWebhookSignature({ body, header, secret: one, now })),
    );
  };
  expect(await verdicts(1)).toEqual([true, true]);
  reached('a delivery goes out under two secrets');
  bench.pass(24 * 60);
  expect(await verdicts(2)).toEqual([true, false]);
  expect(await bench.use.get(caller.accountId, { id })).toMatchObject({
    prev_secret_prefix: null,
    rotation_grace_expires_at: null,
  });
});

test('a delivery is replayed under its event id, and so is everything from a sequence number, in order', async () => {
  const { id } = await register(['subscription.changed', 'trial_pack.purchased']);
  bench.dispatch();
  for (const type of [
    'subscription.changed',
    'trial_pack.expired',
    'trial_pack.purchased',
    'subscription.changed',
  ] as const)
    await bench.tell(caller.accountId, type);
  await got(3);
  const ids = receiver.received.map(idOf);
  const first = (await deliveries(id)).at(-1);
  const copy = await bench.use.replayDelivery(caller, { id: first?.id ?? '' });
  expect(copy).toMatchObject({ replay_of: first?.id, event_id: ids[0], attempts: 0 });
  await got(4);
  reached('a delivery is replayed that has arrived');
  expect(await bench.use.replay(caller, { id, after: 1 })).toEqual({ deliveries: 2, next_after: null });
  await got(6);
  expect(receiver.received.map(idOf)).toEqual([...ids, ids[0], ids[1], ids[2]]);
});

test('a test is signed and sent, and is not in the feed', async () => {
  const { id, secret } = await register(['trial_pack.expired']);
  bench.dispatch();
  const { event_id } = await bench.use.test(caller, { id });
  await got(1);
  const [{ body, headers } = NOTHING] = receiver.received;
  expect(JSON.parse(body)).toEqual({
    id: event_id,
    type: 'test.ping',
    account_id: `acc_${caller.accountId}`,
    emitted_at: '2026-05-10T12:00:00Z',
    data: {},
  });
  const header = String(headers['x-driftstack-signature']);
  expect(await verifyWebhookSignature({ body, header, secret, now: bench.time.now })).toBe(true);
  expect((await bench.use.listEvents(caller.accountId, { after: 0, limit: 10 })).data).toEqual([]);
});

test('a test of a paused endpoint is refused, saying what to do; what is replayed waits for it', async () => {
  const { id } = await register();
  await bench.tell(caller.accountId);
  bench.dispatch();
  await got(1);
  await untilTrue(async () => (await deliveries(id)).every(({ status }) => status === 'delivered'));
  await bench.use.update(caller, { id, active: false });
  const before = await deliveries(id);
  await expect(bench.use.test(caller, { id })).rejects.toMatchObject({
    ...{ status: 400, slug: 'bad-request', code: 'webhook_endpoint_paused' },
    message: expect.stringContaining('`active: true`'),
  });
  expect(await deliveries(id)).toEqual(before);

  // Events are kept while it is paused, and so is what is asked for once more.
  const [first] = before;
  const again = await bench.use.replayDelivery(caller, { id: first?.id ?? '' });
  expect(again).toMatchObject({ status: 'pending' });
  reached('a delivery is replayed while its endpoint is paused');
  await bench.use.update(caller, { id, active: true });
  await got(2);
  expect(receiver.received.map(idOf)).toEqual([first?.event_id, first?.event_id]);
  await bench.use.test(caller, { id });
  await got(3);

  await bench.use.delete(caller, { id });
  const gone = { status: 404 };
  await expect(bench.use.test(caller, { id })).rejects.toMatchObject(gone);
  await expect(bench.use.replay(caller, { id, after: 0 })).rejects.toMatchObject(gone);
  await expect(bench.use.replayDelivery(caller, { id: again.id })).rejects.toMatchObject({
    ...gone,
    message: expect.stringContaining('was deleted'),
  });
});

test('nothing is sent to a deleted endpoint', async () => {
  const { id } = await register();
  await bench.tell(caller.accountId);
  await bench.use.delete(caller, { id });
  await bench.use.delete(caller, { id });
  await bench.tell(caller.accountId);
  const other = await bench.receiver();
  await register(EVENT_TYPES, other.url);
  await bench.tell(caller.accountId);
  bench.dispatch();
  await got(1, other);
  expect(receiver.received).toEqual([]);
  reached('an endpoint is deleted with deliveries due');
});

test('a thousand events for a dead endpoint delay nobody else: 95 percent arrive within two seconds', async () => {
  const { id: endpointId } = await register();
  receiver.answer(() => undefined);
  for (let i = 0; i < 1_000; i += 1) await bench.tell(caller.accountId);
  bench.dispatch();
  await got(1);

  const other = await bench.addAccount();
  const theirs = await bench.receiver();
  const arrivals: number[] = [];
  theirs.answer((_got, response) => {
    arrivals.push(performance.now());
    response.end();
  });
  await bench.use.create(other, { url: theirs.url, events: [...EVENT_TYPES], description: null });
  const tookMs: number[] = [];
  for (let i = 0; i < 40; i += 1) {
    const toldAt = performance.now();
    await bench.tell(other.accountId);
    await untilTrue(() => arrivals.length > i);
    tookMs.push((arrivals[i] ?? Number.NaN) - toldAt);
  }
  tookMs.sort((a, b) => a - b);
  expect(tookMs[37]).toBeLessThan(2_000);
  expect(
    (
      await bench.db.pool.query('select 1 from webhook_delivery where endpoint_id = $1', [
        endpointId.slice(4),
      ])
    ).rowCount,
  ).toBe(1_000);
}, 90_000);

test('what a process leaves behind when it dies is sent by another one', async () => {
  const { id } = await register();
  await bench.tell(caller.accountId);
  const dead = bench.dispatch({ post: () => new Promise(() => {}), clock: { now: () => NOW } });
  await untilTrue(async () => (await newest(id))?.status === 'in_flight');
  bench.dispatch();
  // Its lease ends when nobody renews it.
  await bench.endLeases();
  bench.pass(1);
  await got(1);
  await settled(id, 1);
  expect((await newest(id))?.status).toBe('delivered');
  reached('a process dies with a delivery on its way');
  await dead.close();
}, 60_000);

test('pages of deliveries do not shift while more are queued, and take only their own cursors', async () => {
  const { id } = await register();
  for (let i = 0; i < 25; i += 1) await bench.tell(caller.accountId);
  const all = (await deliveries(id)).map((delivery) => delivery.id);
  const paged: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await bench.use.listDeliveries(caller.accountId, {
      id,
      limit: 4,
      ...(cursor && { cursor }),
    });
    paged.push(...page.data.map((delivery) => delivery.id));
    await bench.tell(caller.accountId);
    cursor = page.next_cursor ?? undefined;
  } while (cursor);
  expect(paged).toEqual(all);

  const { next_cursor } = await bench.use.listDeliveries(caller.accountId, { id, limit: 1 });
  const another = await register();
  for (const list of [
    () => bench.use.listDeliveries(caller.accountId, { id: another.id, limit: 1, cursor: next_cursor ?? '' }),
    () => bench.use.list(caller.accountId, { limit: 1, cursor: next_cursor ?? '' }),
  ])
    await expect(list()).rejects.toMatchObject({
      slug: 'bad-request',
      options: { errors: [{ field: 'cursor' }] },
    });
});

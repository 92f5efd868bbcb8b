import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import type { Post } from '../../server/webhooks/post.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { MAX_ENDPOINTS } from '../../shared/webhooks.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { openWebhookBench, type Received, type Receiver, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;

beforeEach(async () => {
  bench = await openWebhookBench();
});
afterEach(() => bench.close());

const register = (caller: WebhookCaller, { url }: Receiver) =>
  bench.use.create(caller, { url, events: [...EVENT_TYPES], description: null });
const got = (count: number, { received }: Receiver) => untilTrue(() => received.length >= count);

/** Accounts with as many endpoints as they can have, all of which hang, and something on its way to each. */
async function crowd(accounts: number): Promise<Receiver> {
  const hanging = await bench.receiver();
  hanging.answer(() => undefined);
  for (let account = 0; account < accounts; account += 1) {
    const caller = await bench.addAccount();
    for (let i = 0; i < MAX_ENDPOINTS; i += 1) await register(caller, hanging);
    await bench.tell(caller.accountId);
  }
  return hanging;
}

async function stranger(): Promise<{ accountId: string; receiver: Receiver }> {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  return { accountId: caller.accountId, receiver };
}

/** How many of each account are being tried. */
function byAccount(received: readonly Received[]): number[] {
  return [...Map.groupBy(received, ({ body }) => JSON.parse(body).account_id).values()].map(
    (some) => some.length,
  );
}

/** Deliveries to those who hang never end, as far as the test goes; all others are made. */
const hangingAt =
  ({ url, received }: Receiver): Post =>
  (to, headers, body) => {
    if (to.url.href !== url) return bench.post(to, headers, body);
    received.push({ path: '', headers: {}, body });
    return new Promise(() => {});
  };

test('endpoints known to be slow share half as many places as the quick ones have, four for each account', async () => {
  const hanging = await crowd(9);
  await bench.db.pool.query('update webhook_endpoint set pace_ms = 9000');
  const { accountId, receiver } = await stranger();
  bench.dispatch({ post: hangingAt(hanging) });
  await got(32, hanging);
  await bench.tell(accountId);
  await got(1, receiver);
  await bench.tell(accountId);
  await got(2, receiver);
  expect(hanging.received).toHaveLength(32);
  expect(Math.max(...byAccount(hanging.received))).toBe(4);
});

test('seven accounts whose endpoints hang, and of which nothing is known yet, leave places to a stranger', async () => {
  const hanging = await crowd(7);
  const { accountId, receiver } = await stranger();
  bench.dispatch({ post: hangingAt(hanging) });
  await got(56, hanging);
  await bench.tell(accountId);
  await got(1, receiver);
  // Those of the first look: a second later they count as slow, and others of their accounts are tried as well.
  expect(byAccount(hanging.received.slice(0, 56))).toEqual(Array(7).fill(8));
});

test('whoever hangs gives its place to a quick one after a second', async () => {
  const hanging = await crowd(3);
  const { accountId, receiver } = await stranger();
  const places = { all: { quick: 4, slow: 1 }, share: { quick: 2, slow: 1 }, most: 9 };
  bench.dispatch({ places, post: hangingAt(hanging) });
  await got(4, hanging);
  await bench.tell(accountId);
  await got(1, receiver);
  reached('an endpoint hangs, and gives its place to a quick one');
});

test('what hangs has a bound for all of it', async () => {
  const hanging = await crowd(3);
  const places = { all: { quick: 4, slow: 1 }, share: { quick: 2, slow: 1 }, most: 6 };
  bench.dispatch({ places, post: hangingAt(hanging) });
  // Four at once, and after a second as many again, if there were no bound.
  await got(5, hanging);
  await untilTrue(() => hanging.received.length > 5);
  expect(hanging.received).toHaveLength(6);
});

test('those who wait are served in turns by account, and not in the order of their age', async () => {
  const order: string[] = [];
  const [many, few] = [await bench.receiver(), await bench.receiver()];
  many.answer((_got, response) => {
    order.push('many');
    response.end();
  });
  few.answer((_got, response) => {
    order.push('few');
    response.end();
  });
  const one = await bench.addAccount();
  for (let i = 0; i < 5; i += 1) await register(one, many);
  await bench.tell(one.accountId);
  bench.pass(1);
  const other = await bench.addAccount();
  await register(other, few);
  await bench.tell(other.accountId);
  const single = { quick: 1, slow: 1 };
  bench.dispatch({ places: { all: single, share: single, most: 2 } });
  await untilTrue(() => order.length === 6);
  expect(order.indexOf('few')).toBeLessThanOrEqual(1);
});

test('an endpoint with a long line gives its place to whoever waits after a second', async () => {
  const long = await bench.receiver();
  long.answer((_got, response) => void setTimeout(() => response.end(), 20));
  const one = await bench.addAccount();
  await register(one, long);
  const [{ id = '' } = {}] = (await bench.use.list(one.accountId, { limit: 1 })).data;
  for (let i = 0; i < 400; i += 1) await bench.use.test(one, { id });
  const single = { quick: 1, slow: 1 };
  const { accountId, receiver } = await stranger();
  bench.dispatch({ places: { all: single, share: single, most: 2 } });
  await got(1, long);
  await bench.tell(accountId);
  await got(1, receiver);
  expect(long.received.length).toBeLessThan(200);
});

test('how slow an endpoint is, is told by how long it took: also where it answered 200', async () => {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  const pace = async () =>
    (await bench.db.pool.query<{ pace_ms: number }>('select pace_ms from webhook_endpoint')).rows[0]
      ?.pace_ms ?? 0;
  receiver.answer((_got, response) => void setTimeout(() => response.end(), 1_100));
  bench.dispatch();
  await bench.tell(caller.accountId);
  await untilTrue(async () => (await pace()) >= 1_000);
  reached('an endpoint is slow, and answers 200');
  // One quick answer is not enough, two are.
  receiver.answer(200);
  const before = await pace();
  await bench.tell(caller.accountId);
  await untilTrue(async () => (await pace()) < before);
  expect(await pace()).toBeGreaterThanOrEqual(Math.floor(before / 2));
});

import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { MAX_WAITING, REPLAY_PAGE } from '../../shared/webhook-deliveries.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { openWebhookBench, type Received, type Receiver, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;
let caller: WebhookCaller;
let receiver: Receiver;
let id: string;

beforeEach(async () => {
  bench = await openWebhookBench();
  caller = await bench.addAccount();
  receiver = await bench.receiver();
  ({ id } = await bench.use.create(caller, {
    url: receiver.url,
    events: [...EVENT_TYPES],
    description: null,
  }));
});
afterEach(() => bench.close());

const list = async (status?: 'dlq' | 'failed' | 'pending' | 'delivered') =>
  (await bench.use.listDeliveries(caller.accountId, { id, limit: 100, ...(status && { status }) })).data;
const counts = async () => (await bench.use.get(caller.accountId, { id })).delivery_counts;
const idOf = ({ body }: Received): string => JSON.parse(body).id;
const got = (count: number) => untilTrue(() => receiver.received.length >= count);
/** Every delivery has been tried so often, and the outcome is written down. */
const tried = (attempts: number) =>
  untilTrue(async () =>
    (await list()).every((one) => one.attempts === attempts && one.status !== 'in_flight'),
  );

/** So many events in the dead-letter queue. */
async function giveUp(events: number): Promise<void> {
  receiver.answer(500);
  for (let i = 0; i < events; i += 1) await bench.tell(caller.accountId);
  for (const [at, minutes] of [1, 5, 15, 30, 60].entries()) {
    await tried(at + 1);
    bench.pass(minutes);
  }
  await tried(6);
  expect(await list('dlq')).toHaveLength(events);
  receiver.received.length = 0;
  receiver.answer(200);
}

/** As one who looks after an endpoint does it, until the queue is empty. */
async function replayAllDead(): Promise<number> {
  const dead = await list('dlq');
  for (const one of dead) await bench.use.replayDelivery(caller, { id: one.id });
  return dead.length;
}

/** Long enough for everything that could still be due, and a sign that it was looked at. */
async function aDayLater(): Promise<void> {
  bench.pass(24 * 60);
  const [other, theirs] = [await bench.addAccount(), await bench.receiver()];
  await bench.use.create(other, { url: theirs.url, events: [...EVENT_TYPES], description: null });
  await bench.tell(other.accountId);
  await untilTrue(() => theirs.received.length === 1);
}

test('what is replayed out of the dead-letter queue has left it, and replaying all of it again sends nothing', async () => {
  bench.dispatch();
  await giveUp(3);
  expect(await counts()).toEqual({ delivered: 0, failed: 0, dlq: 3 });
  expect(await replayAllDead()).toBe(3);
  await got(3);
  await untilTrue(async () => (await list('delivered')).length === 3);
  expect(await replayAllDead()).toBe(0);
  reached('a delivery is replayed that was given up');
  await aDayLater();
  expect(receiver.received).toHaveLength(3);
  expect(await counts()).toEqual({ delivered: 3, failed: 0, dlq: 0 });
});

test('a delivery that failed and is replayed arrives once: its own next try is not made beside it', async () => {
  receiver.answer(500);
  bench.dispatch();
  await bench.tell(caller.accountId);
  await tried(1);
  const [failed] = await list('failed');
  receiver.received.length = 0;
  receiver.answer(200);
  const again = await bench.use.replayDelivery(caller, { id: failed?.id ?? '' });
  expect(again).toMatchObject({ id: failed?.id, event_id: failed?.event_id, status: 'pending', attempts: 0 });
  await got(1);
  await untilTrue(async () => (await list('delivered')).length === 1);
  await aDayLater();
  expect(receiver.received).toHaveLength(1);
  expect(await list()).toHaveLength(1);
  reached('a delivery is replayed that waits for its next try');
  expect(await counts()).toEqual({ delivered: 1, failed: 0, dlq: 0 });
});

test('what begins anew has all of its tries before it', async () => {
  bench.dispatch();
  await giveUp(1);
  receiver.answer(500);
  await replayAllDead();
  await tried(1);
  const due = new Date(bench.time.now.getTime() + 60_000).toISOString().replace('.000', '');
  expect(await list()).toMatchObject([{ status: 'failed', next_attempt_at: due }]);
  expect(await counts()).toEqual({ delivered: 0, failed: 1, dlq: 0 });
});

test.each(['dlq', 'delivered'] as const)(
  'two replays of one %s delivery at once send it once',
  async (status) => {
    const dispatcher = bench.dispatch();
    if (status === 'dlq') await giveUp(1);
    else {
      await bench.tell(caller.accountId);
      await untilTrue(async () => (await list('delivered')).length === 1);
      receiver.received.length = 0;
    }
    await dispatcher.close();
    const [one] = await list(status);
    const both = await Promise.all([1, 2].map(() => bench.use.replayDelivery(caller, { id: one?.id ?? '' })));
    expect(both[0]?.id).toBe(both[1]?.id);
    expect(both[0]?.replay_of).toBe(status === 'delivered' ? one?.id : null);
    bench.dispatch();
    await got(1);
    await aDayLater();
    expect(receiver.received).toHaveLength(1);
    const { rows } = await bench.db.pool.query(
      "select 1 from audit_entry where action = 'webhook_delivery.replayed'",
    );
    expect(rows).toHaveLength(1);
    reached('two replays of one delivery come at once');
  },
);

test('what is on its way already is not sent a second time', async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  receiver.answer((_got, response) => void mayAnswer.then(() => response.end()));
  await bench.tell(caller.accountId);
  const [pending] = await list('pending');
  expect((await bench.use.replayDelivery(caller, { id: pending?.id ?? '' })).id).toBe(pending?.id);
  bench.dispatch();
  await got(1);
  expect(await bench.use.replayDelivery(caller, { id: pending?.id ?? '' })).toMatchObject({
    id: pending?.id,
    status: 'in_flight',
  });
  reached('a delivery is replayed that is on its way');
  expect(await bench.use.replay(caller, { id, after: 0 })).toEqual({ deliveries: 0, next_after: null });
  answer();
  await untilTrue(async () => (await list('delivered')).length === 1);
  await aDayLater();
  expect(receiver.received).toHaveLength(1);
});

test('replaying from a sequence number sends each event once, in order, whatever became of it before', async () => {
  const first = bench.dispatch();
  await giveUp(2);
  await bench.tell(caller.accountId);
  await untilTrue(async () => (await list('delivered')).length === 1);
  await bench.tell(caller.accountId);
  await untilTrue(async () => (await list('delivered')).length === 2);
  await first.close();
  receiver.received.length = 0;
  expect(await bench.use.replay(caller, { id, after: 0 })).toEqual({ deliveries: 4, next_after: null });
  expect(await bench.use.replay(caller, { id, after: 0 })).toEqual({ deliveries: 0, next_after: null });
  bench.dispatch();
  await got(4);
  await aDayLater();
  const { data } = await bench.use.listEvents(caller.accountId, { after: 0, limit: 100 });
  expect(receiver.received.map(idOf)).toEqual(data.map((event) => event.id));
  expect(await counts()).toEqual({ delivered: 6, failed: 0, dlq: 0 });
});

/** So many events of the account, each with a delivery that stands there. */
async function history(events: number, state: 'delivered' | 'pending'): Promise<void> {
  const { accountId } = caller;
  const endpointId = id.slice(4);
  const start = (await bench.use.listEvents(accountId, { after: 0, limit: 1 })).data.length;
  await bench.db.pool.query(
    `insert into event (id, account_id, sequence, type, data, dedupe_key, emitted_at)
     select gen_random_uuid(), $1, n, 'subscription.changed', '{}', 'made-' || n, $3
       from generate_series($4::int + 1, $4::int + $2::int) n`,
    [accountId, events, bench.time.now, start],
  );
  await bench.db.pool.query(
    `insert into webhook_delivery (id, account_id, endpoint_id, position, event_id, event_type, state,
                                   next_attempt_at, created_at)
     select gen_random_uuid(), $1, $2, 1000 + sequence, id, type, $3,
            case when $3 = 'pending' then $4::timestamptz end, $4 from event where account_id = $1`,
    [accountId, endpointId, state, bench.time.now],
  );
  await bench.db.pool.query(
    'update account set webhook_position = 1000000, event_sequence = $2 where id = $1',
    [accountId, start + events],
  );
}

test('one call replays a bounded number of events and says where to go on', async () => {
  await history(1_203, 'delivered');
  const replayed: number[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = await bench.use.replay(caller, { id, after });
    replayed.push(page.deliveries);
    after = page.next_after;
  }
  expect(replayed).toEqual([500, 500, 203]);
  const { rows } = await bench.db.pool.query(
    `select e.sequence::int as sequence from webhook_delivery d join event e on e.id = d.event_id
      where d.state = 'pending' order by d.position`,
  );
  expect(rows.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 1_203 }, (_, at) => at + 1));
});

test('with many deliveries waiting, replays and tests are refused, and news are not', async () => {
  await history(MAX_WAITING - 1, 'pending');
  expect((await bench.use.test(caller, { id })).status).toBe('pending');
  const tooMany = { slug: 'conflict', code: 'too_many_deliveries_waiting' };
  await expect(bench.use.test(caller, { id })).rejects.toMatchObject(tooMany);
  await expect(bench.use.replay(caller, { id, after: 0 })).rejects.toMatchObject(tooMany);
  expect(await bench.tell(caller.accountId)).toBe(true);
  expect(REPLAY_PAGE).toBeLessThan(MAX_WAITING);
});

test('the counts of an endpoint are those of its deliveries, whatever happened to them', async () => {
  let turn = 0;
  receiver.answer((_got, response) => void response.writeHead(turn++ % 3 === 0 ? 200 : 500).end());
  bench.dispatch();
  const agree = async (): Promise<boolean> => {
    const { rows } = await bench.db.pool.query(
      `select count(*) filter (where state = 'delivered')::int as delivered,
              count(*) filter (where state = 'failed')::int as failed,
              count(*) filter (where state = 'dlq')::int as dlq,
              count(*) filter (where state in ('pending', 'in_flight'))::int as open from webhook_delivery`,
    );
    const { open, ...counted } = rows[0];
    return open === 0 && JSON.stringify(counted) === JSON.stringify(await counts());
  };
  for (const minutes of [1, 5, 15, 30, 60, 1]) {
    for (let i = 0; i < 4; i += 1) await bench.tell(caller.accountId);
    await untilTrue(agree);
    for (const one of (await list('failed')).slice(0, 2))
      await bench.use.replayDelivery(caller, { id: one.id });
    for (const one of (await list('dlq')).slice(0, 2)) await bench.use.replayDelivery(caller, { id: one.id });
    await untilTrue(agree);
    bench.pass(minutes);
    await untilTrue(agree);
  }
  expect((await counts()).delivered).toBeGreaterThan(0);
});

import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { claimEndpoints, release, renewLeases } from '../../server/webhooks/claim.ts';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { NOW } from '../support/stripe.ts';
import { newsOf, openWebhookBench, type Receiver, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;

beforeEach(async () => {
  bench = await openWebhookBench();
});
afterEach(() => bench.close());

const register = (caller: WebhookCaller, { url }: Receiver) =>
  bench.use.create(caller, { url, events: [...EVENT_TYPES], description: null });
const got = (count: number, { received }: Receiver) => untilTrue(() => received.length >= count);

/** Another account's delivery arrives: a sign that the dispatcher has looked at the time and the rows of now. */
async function elsewhere(): Promise<void> {
  const [other, theirs] = [await bench.addAccount(), await bench.receiver()];
  await register(other, theirs);
  await bench.tell(other.accountId);
  await got(1, theirs);
}

test('a dispatcher that was too slow to renew its lease does not start on the same endpoint twice', async () => {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  receiver.answer(() => undefined);
  bench.dispatch();
  await bench.tell(caller.accountId);
  await got(1, receiver);
  // The lease has ended by now, and the delivery is still under way.
  await bench.endLeases();
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
  reached('a dispatcher is too slow to renew its lease, and nobody takes it');
});

test('an endpoint whose deliveries were broken off is served again soon, however busy the others are', async () => {
  const [busy, broken] = [await bench.receiver(), await bench.receiver()];
  busy.answer(() => undefined);
  await register(await bench.addAccount(), busy);
  const caller = await bench.addAccount();
  await register(caller, broken);
  let thrown = 0;
  bench.dispatch({
    post: (to, headers, body) => {
      if (to.url.href === broken.url && thrown++ === 0) throw new Error('the first time goes wrong');
      return bench.post(to, headers, body);
    },
  });
  for (const { accountId } of await bench.accounts()) await bench.tell(accountId);
  await got(1, busy);
  await untilTrue(() => thrown === 1);
  // Far less than a lease takes to end.
  bench.pass(0.05);
  await got(1, broken);
  expect(busy.received).toHaveLength(1);
  reached('a dispatcher breaks off, and the endpoint is served again');
});

test('an endpoint that breaks off each time is tried less and less often, once a minute at last', async () => {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  await bench.tell(caller.accountId);
  let tries = 0;
  bench.dispatch({
    post: () => {
      tries += 1;
      throw new Error('it goes wrong each time');
    },
  });
  const isDueIn = async (seconds: number): Promise<boolean> => {
    const at = new Date(bench.time.now.getTime() + seconds * 1000);
    const free = 'select 1 from webhook_endpoint where lease_id is null and next_due_at = $1';
    return (await bench.db.pool.query(free, [at])).rowCount === 1;
  };
  for (const [at, seconds] of [1, 2, 4, 8, 16, 32, 60, 60].entries()) {
    await untilTrue(async () => tries === at + 1 && (await isDueIn(seconds)));
    bench.time.now = new Date(bench.time.now.getTime() + seconds * 1000);
  }
});

test('a lease is renewed for the endpoints named and for no other', async () => {
  const { db } = bench;
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  const [one, other] = [await register(caller, receiver), await register(caller, receiver)];
  const leaseId = randomUUID();
  await db.pool.query('update webhook_endpoint set lease_id = $1, leased_until = now()', [leaseId]);
  const mine = [one.id.slice(4)];
  expect(await renewLeases(db, { leaseId, endpointIds: mine })).toEqual({ renewed: mine, lost: [] });
  const { rows } = await db.pool.query('select id from webhook_endpoint where leased_until > now()');
  expect(rows).toEqual([{ id: one.id.slice(4) }]);
  await db.pool.query('update webhook_endpoint set lease_id = $1', [randomUUID()]);
  const both = [one.id.slice(4), other.id.slice(4)];
  const { renewed, lost } = await renewLeases(db, { leaseId, endpointIds: both });
  expect([renewed, lost.toSorted()]).toEqual([[], both.toSorted()]);
});

test('a dispatcher whose lease somebody else has by now sends no more', async () => {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  for (let i = 0; i < 3; i += 1) await bench.tell(caller.accountId);
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  let sent = 0;
  const slow = bench.dispatch({
    clock: { now: () => NOW },
    post: async () => {
      sent += 1;
      await mayEnd;
      return { status: 500, excerpt: null, retryAfter: null, error: null, durationMs: 1 };
    },
  });
  await untilTrue(() => sent === 1);
  bench.pass(1);
  await bench.endLeases();
  bench.dispatch();
  await got(3, receiver);
  const delivered = "select 1 from webhook_delivery where state = 'delivered'";
  await untilTrue(async () => (await bench.db.pool.query(delivered)).rowCount === 3);
  end();
  await elsewhere();
  await slow.close();
  expect([sent, receiver.received.length]).toEqual([1, 3]);
  reached('a lease is lost between sending and writing down');
  const failing = 'select 1 from webhook_endpoint where consecutive_failures > 0';
  expect((await bench.db.pool.query(failing)).rowCount).toBe(0);
});

test('renewing leases and telling the news of an account that waits for one of its endpoints do not block each other', async () => {
  const { db } = bench;
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  for (let i = 0; i < 3; i += 1) await register(caller, receiver);
  const leaseId = randomUUID();
  const { rows } = await db.pool.query<{ id: string }>('select id from webhook_endpoint order by id');
  const [first = '', second = '', third = ''] = rows.map(({ id }) => id);
  // The order in which a statement without an order of its own comes upon them: the last one first.
  for (const id of [third, first, second])
    await db.pool.query('update webhook_endpoint set lease_id = $1 where id = $2', [leaseId, id]);
  const blocker = await db.pool.connect();
  const waiting = async (count: number) =>
    (
      await db.pool.query(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      )
    ).rowCount === count;
  try {
    await blocker.query('begin');
    await blocker.query('select 1 from webhook_endpoint where id = $1 for no key update', [second]);
    const telling = bench.tell(caller.accountId);
    await untilTrue(() => waiting(1));
    // It has the first and waits for the second; the third is free to be renewed, and nobody is waited for.
    const renewing = renewLeases(db, { leaseId, endpointIds: [third, first, second] });
    expect(await Promise.race([renewing, untilTrue(() => waiting(2)).then(() => 'waits')])).toEqual({
      renewed: [third],
      lost: [],
    });
    await blocker.query('commit');
    expect(await telling).toBe(true);
  } finally {
    await blocker.query('rollback');
    blocker.release();
  }
});

test('what is queued in the moment in which an endpoint is given back is sent', async () => {
  const { db } = bench;
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  const { accountId } = caller;
  await register(caller, receiver);
  await bench.tell(accountId);
  const leaseId = randomUUID();
  const { now } = bench.time;
  const one = { quick: 1, slow: 1 };
  const [endpoint] = await claimEndpoints(db, { leaseId, free: one, share: one, held: [], except: [], now });
  if (!endpoint) throw new Error('nothing was due');
  // As if what was due had been sent.
  await db.pool.query("update webhook_delivery set state = 'delivered', next_attempt_at = null");

  const { promise: mayCommit, resolve: commit } = Promise.withResolvers<void>();
  const { promise: queued, resolve: isQueued } = Promise.withResolvers<void>();
  const queueing = db.transaction(async (tx) => {
    const news = newsOf('subscription.changed');
    await recordEvent(tx, { accountId, news, dedupeKey: 'in-between', now });
    isQueued();
    await mayCommit;
  });
  await queued;
  const releasing = release(db, { endpointId: endpoint.id, leaseId, now });
  const waiting =
    "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  try {
    await untilTrue(async () => (await db.pool.query(waiting)).rowCount === 1);
  } finally {
    commit();
  }
  await Promise.all([queueing, releasing]);

  bench.dispatch();
  await got(1, receiver);
  reached('a delivery is queued in the moment in which its endpoint is given back');
});

test('two dispatchers whose clocks are ten seconds apart leave each other’s endpoints alone', async () => {
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  await register(caller, receiver);
  receiver.answer(() => undefined);
  bench.dispatch();
  await bench.tell(caller.accountId);
  await got(1, receiver);
  // Leases are by the clock of the database: to whoever is ahead they last no shorter.
  bench.dispatch({ clock: { now: () => new Date(bench.time.now.getTime() + 10_000) } });
  await elsewhere();
  await bench.db.pool.query(
    "update webhook_endpoint set leased_until = now() + interval '6 seconds' where lease_id is not null",
  );
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
  reached('the clocks of two workers are apart');
});

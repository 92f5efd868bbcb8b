import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { claimEndpoints, release } from '../../server/webhooks/claim.ts';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { MAX_ENDPOINTS } from '../../shared/webhooks.ts';
import { untilTrue } from '../support/service.ts';
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
  bench.pass(1);
  await elsewhere();
  expect(receiver.received).toHaveLength(1);
});

test('endpoints that fail and hang take half of the places at most, however many they are', async () => {
  const hanging = await bench.receiver();
  hanging.answer(() => undefined);
  for (let account = 0; account < 7; account += 1) {
    const caller = await bench.addAccount();
    for (let i = 0; i < MAX_ENDPOINTS; i += 1) await register(caller, hanging);
    await bench.tell(caller.accountId);
  }
  await bench.db.pool.query('update webhook_endpoint set consecutive_failures = 1');
  bench.dispatch();
  await got(32, hanging);
  await elsewhere();
  expect(hanging.received).toHaveLength(32);
});

test('what is queued in the moment in which an endpoint is given back is sent', async () => {
  const { db } = bench;
  const [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
  const { accountId } = caller;
  await register(caller, receiver);
  await bench.tell(accountId);
  const leaseId = randomUUID();
  const { now } = bench.time;
  const claim = { leaseId, limit: 1, failing: false, except: [], now };
  const [endpoint] = await claimEndpoints(db, claim);
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
  const releasing = release(db, endpoint.id, leaseId);
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
});

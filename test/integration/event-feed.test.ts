import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { applyTrialPack } from '../../server/credit/apply.ts';
import { expireTrialPack } from '../../server/credit/expire.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { type BillingEvent, EVENT_TYPES, webhookBodySchema } from '../../shared/events.ts';
import { processEvents } from '../support/processing.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';
import { newsOf, openWebhookBench, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;
let accountId: string;

beforeAll(async () => {
  bench = await openWebhookBench();
});
afterAll(() => bench?.close());
beforeEach(async () => {
  ({ accountId } = await bench.addAccount());
});

const read = (after = 0, limit = 100) => bench.use.listEvents(accountId, { after, limit });

/** What a consumer does: read on from the last number until there is no more. */
async function catchUp(after: number, limit: number): Promise<BillingEvent[]> {
  const events: BillingEvent[] = [];
  for (let last = after; ; ) {
    const page = await bench.use.listEvents(accountId, { after: last, limit });
    events.push(...page.data);
    last = page.data.at(-1)?.sequence ?? last;
    if (!page.has_more) return events;
  }
}

test('each event carries what a webhook would, and its place', async () => {
  for (const type of EVENT_TYPES) await bench.tell(accountId, type);
  const { data, has_more } = await read();
  expect(has_more).toBe(false);
  expect(data.map(({ sequence, type }) => [sequence, type])).toEqual(
    EVENT_TYPES.map((type, i) => [i + 1, type]),
  );
  for (const { sequence: _, ...body } of data) expect(webhookBodySchema.parse(body)).toEqual(body);
  expect(data[0]).toMatchObject({ account_id: `acc_${accountId}`, emitted_at: '2026-05-10T12:00:00Z' });
});

test('one fact is told once, and takes one number', async () => {
  const fact = { accountId, news: newsOf('subscription.changed'), now: bench.time.now };
  const tell = (dedupeKey: string) => bench.db.transaction((tx) => recordEvent(tx, { ...fact, dedupeKey }));
  expect(await tell(`${accountId}:a`)).toBe(true);
  expect(await tell(`${accountId}:a`)).toBe(false);
  expect(await tell(`${accountId}:b`)).toBe(true);
  expect((await read()).data.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

test('what is rolled back leaves no gap', async () => {
  await bench.tell(accountId);
  const failing = bench.db.transaction(async (tx) => {
    await recordEvent(tx, {
      accountId,
      news: newsOf('trial_pack.expired'),
      dedupeKey: `${accountId}:x`,
      now: bench.time.now,
    });
    throw new Error('rolled back');
  });
  await expect(failing).rejects.toThrow('rolled back');
  await bench.tell(accountId);
  expect((await read()).data.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

test('a reader beside forty concurrent writers never sees a number before the one below it', async () => {
  let writing = true;
  const seen: number[] = [];
  const reader = (async () => {
    for (let last = 0; ; ) {
      const stop = !writing;
      const { data, has_more } = await read(last, 7);
      for (const { sequence } of data) seen.push(sequence);
      last = data.at(-1)?.sequence ?? last;
      if (stop && !has_more) return;
    }
  })();
  await Promise.all(
    Array.from({ length: 40 }, (_, writer) =>
      bench.db.transaction(async (tx) => {
        await recordEvent(tx, {
          accountId,
          news: newsOf('subscription.changed'),
          dedupeKey: `${accountId}:${writer}`,
          now: bench.time.now,
        });
        // Commits in another order than they began, were it not for the lock.
        await tx.execute('select pg_sleep(?)', [Math.random() / 100]);
      }),
    ),
  );
  writing = false;
  await reader;
  expect(seen).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
});

test('a consumer that was away for a day catches up without loss or repetition, page by page, while more is written', async () => {
  for (let i = 0; i < 30; i += 1) await bench.tell(accountId);
  const handled = (await read(0, 10)).data.map(({ id }) => id);
  bench.pass(24 * 60);
  const more = (async () => {
    for (let i = 0; i < 20; i += 1) await bench.tell(accountId);
  })();
  handled.push(...(await catchUp(10, 3)).map(({ id }) => id));
  await more;
  handled.push(...(await catchUp(handled.length, 100)).map(({ id }) => id));
  expect(handled.length).toBe(50);
  expect(new Set(handled).size).toBe(50);
});

test('events are never changed', async () => {
  await bench.tell(accountId);
  for (const statement of ['update event set sequence = 9', 'delete from event', 'truncate event'])
    await expect(bench.db.pool.query(statement), statement).rejects.toThrow('append-only');
});

const tables = (stripe: Bench) =>
  stripe.db.pool.query<{ account_id: string; type: string; data: string }>(
    'select account_id, type, data::text as data from event order by account_id, sequence',
  );

test('what happens at Stripe is told with the new state and what was before, in the same transaction', async () => {
  const stripe = await openBench();
  try {
    const { customer, ...account } = await addCustomer(stripe);
    const held = stripe.stripe.put(subscription({ customer }));
    const bring = async (type: Parameters<typeof deliver>[1]) =>
      processEvents(stripe, [await deliver(stripe, type, held)]);
    await bring('customer.subscription.created');
    stripe.stripe.change(held.id, { cancel_at_period_end: true });
    await bring('customer.subscription.updated');
    await bring('customer.subscription.updated');
    stripe.stripe.change(held.id, { status: 'canceled' });
    await bring('customer.subscription.deleted');

    const { rows } = await tables(stripe);
    expect(rows.every((row) => row.account_id === account.accountId)).toBe(true);
    const told = rows.map(({ type, data }) => ({ type, ...JSON.parse(data) }));
    expect(told).toEqual([
      {
        type: 'subscription.changed',
        subscription: expect.objectContaining({ tier: 'api_builder', status: 'active' }),
        previous: null,
      },
      {
        type: 'subscription.changed',
        subscription: expect.objectContaining({ cancel_at_period_end: true }),
        previous: { cancel_at_period_end: false },
      },
      {
        type: 'subscription.changed',
        subscription: expect.objectContaining({ status: 'canceled' }),
        previous: { status: 'active', cancel_at_period_end: true },
      },
      {
        type: 'subscription.cancelled',
        subscription: expect.objectContaining({ status: 'canceled' }),
        previous: { status: 'active', cancel_at_period_end: true },
      },
    ]);
  } finally {
    await stripe.close();
  }
});

test('a trial pack is told of when it is paid for and when it expires, each once', async () => {
  const facts = {
    sessionId: `cs_${accountId}`,
    paymentIntentId: `pi_${accountId}`,
    paid: true,
    paidAt: new Date('2026-05-10T11:59:00Z'),
    amountCents: 299,
    amountRefundedCents: 0,
    currency: 'usd',
    disputeStatuses: [],
  };
  const { db, time } = bench;
  const apply = () => db.transaction((tx) => applyTrialPack(tx, { accountId, facts, cause: {} }, time.now));
  await apply();
  await apply();
  const later = new Date('2026-05-24T12:00:00Z');
  for (let i = 0; i < 2; i += 1) await expireTrialPack({ db, clock: { now: () => later } }, accountId);

  const pack = { expires_at: '2026-05-24T11:59:00Z', redeemed: true };
  expect((await read()).data.map(({ type, data }) => ({ type, data }))).toEqual([
    {
      type: 'trial_pack.purchased',
      data: { trial_pack: { ...pack, active: true, credit_cents_remaining: 299 }, previous: null },
    },
    {
      type: 'trial_pack.expired',
      data: {
        trial_pack: { ...pack, active: false, credit_cents_remaining: 0 },
        previous: { active: true, credit_cents_remaining: 299 },
      },
    },
  ]);
});

import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, Pool } from 'pg';
import type Stripe from 'stripe';
import { seedAccounts, withClient } from '../database.ts';
import { type LoadResult, load, requestBytes, times } from '../load.ts';
import { inParallel, type LocalStripe, startLocalStripe } from '../local-stripe.ts';
import type { Bench, Report } from '../section.ts';
import { median, percentile } from '../statistics.ts';
import { figure, mebibytes } from '../table.ts';

const CONNECTIONS = 20;
const ACCOUNTS = 500;
const ROUNDS = 3;
const PER_ROUND = 1_000;
const WARM_UP = 200;
const SECRET = 'whsec_bench';
/** Far more than a drain of so few events needs. */
const SETTLE_DEADLINE_MS = 120_000;

/** Signed events acknowledged and settled, against inserting their raw bytes and nothing else. */
export async function intake(bench: Bench): Promise<Report> {
  bench.say(`intake: making ${ACCOUNTS} customers with subscriptions`);
  const stripe = await startLocalStripe(bench);
  const subscriptions = await inParallel(ACCOUNTS, 20, () => subscribe(stripe));
  const acknowledged = await acknowledge(bench, stripe, subscriptions);
  const settled = await settle(bench, stripe, subscriptions);
  await stripe.child.close();
  return report(acknowledged, settled);
}

async function subscribe({ sdk, price }: LocalStripe): Promise<Stripe.Subscription> {
  const { id: customer } = await sdk.customers.create({
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  return await sdk.subscriptions.create({ customer, items: [{ price }] });
}

type Acknowledged = { rounds: { ours: LoadResult; insert: LoadResult }[]; peakRssBytes: number };

async function acknowledge(
  bench: Bench,
  stripe: LocalStripe,
  subscriptions: readonly Stripe.Subscription[],
): Promise<Acknowledged> {
  const databaseUrl = await bench.createDatabase();
  const product = await bench.startChild('product', options(databaseUrl, stripe, ['webhooks']));
  const rounds: Acknowledged['rounds'] = [];
  await withPool(databaseUrl, async (pool) => {
    await deliver(product.url, eventsAbout(subscriptions, WARM_UP));
    for (let round = 1; round <= ROUNDS; round++) {
      bench.say(`taking events in, round ${round} of ${ROUNDS}`);
      const events = eventsAbout(subscriptions, PER_ROUND);
      rounds.push({ ours: await deliver(product.url, events), insert: await insertRaw(pool, events) });
    }
  });
  const { peakRssBytes } = await product.memory();
  await product.close();
  return { rounds, peakRssBytes };
}

type Settled = { events: number; seconds: number; perSecond: number; peakRssBytes: number };

/** A worker that comes back to a backlog of one event for each account, so that no pass settles two. */
async function settle(
  bench: Bench,
  stripe: LocalStripe,
  subscriptions: readonly Stripe.Subscription[],
): Promise<Settled> {
  const databaseUrl = await bench.createDatabase();
  const customers = subscriptions.map(({ customer }) =>
    typeof customer === 'string' ? customer : customer.id,
  );
  await seedAccounts(databaseUrl, subscriptions.length, customers);
  const door = await bench.startChild('product', options(databaseUrl, stripe, ['webhooks']));
  await deliver(door.url, eventsAbout(subscriptions, subscriptions.length));
  await door.close();
  // The worker would else fetch and settle what the local Stripe has told nobody as well.
  await withClient(databaseUrl, (client) => client.query(REST));

  bench.say(`settling ${subscriptions.length} events`);
  const worker = await bench.startChild('product', options(databaseUrl, stripe, ['worker']));
  const seconds = await withClient(databaseUrl, (client) => untilSettled(client, subscriptions.length));
  const { peakRssBytes } = await worker.memory();
  await worker.close();
  return { events: subscriptions.length, seconds, perSecond: subscriptions.length / seconds, peakRssBytes };
}

const REST = `insert into recurring_task (name, next_run_at, progress)
select name, now() + interval '1 day', 'null' from unnest(array['stripe-catch-up', 'stripe-sweep']) as name`;

/** Seconds from the first event that was carried out to the last. */
async function untilSettled(client: Client, events: number): Promise<number> {
  const deadline = performance.now() + SETTLE_DEADLINE_MS;
  for (;;) {
    const { rows } = await client.query<{ open: number; done: number; seconds: number }>(
      `select count(*) filter (where state = 'received')::int as open,
         count(*) filter (where state = 'done')::int as done,
         extract(epoch from max(processed_at) - min(processed_at))::float8 as seconds
       from stripe_event where starts_with(id, 'evt_bench')`,
    );
    const [{ open, done, seconds } = { open: 0, done: 0, seconds: 0 }] = rows;
    if (open === 0 && done === events) return seconds;
    if (open === 0) throw new Error(`only ${done} of ${events} events were carried out`);
    if (performance.now() > deadline) throw new Error(`${open} events did not settle`);
    await sleep(20);
  }
}

const options = (databaseUrl: string, stripe: LocalStripe, roles: readonly string[]) => ({
  databaseUrl,
  roles,
  poolMax: CONNECTIONS,
  stripeUrl: stripe.child.url,
  webhookSecret: SECRET,
});

/** New events of the size Stripe sends, about one subscription after the other. */
function eventsAbout(subscriptions: readonly Stripe.Subscription[], count: number): Buffer[] {
  const created = Math.floor(Date.now() / 1_000);
  return Array.from({ length: count }, (_, index) => {
    const object = subscriptions[index % subscriptions.length];
    const event = {
      id: `evt_bench${randomBytes(12).toString('hex')}`,
      object: 'event',
      api_version: '2026-01-28',
      created,
      data: { object, previous_attributes: { status: 'incomplete' } },
      livemode: false,
      pending_webhooks: 1,
      request: { id: null, idempotency_key: null },
      type: 'customer.subscription.updated',
    };
    return Buffer.from(JSON.stringify(event, null, 2));
  });
}

async function deliver(url: string, events: readonly Buffer[]): Promise<LoadResult> {
  const time = Math.floor(Date.now() / 1_000);
  const requests = events.map((body) => {
    const signature = createHmac('sha256', SECRET).update(`${time}.`).update(body).digest('hex');
    return requestBytes({
      method: 'POST',
      path: '/webhooks/stripe',
      headers: { 'content-type': 'application/json', 'stripe-signature': `t=${time},v1=${signature}` },
      body: body.toString('utf8'),
    });
  });
  return await load({ url, connections: CONNECTIONS, next: times(requests.length, requests) });
}

/** The floor: each event's bytes in a transaction of its own, at the same concurrency, without HTTP. */
async function insertRaw(pool: Pool, events: readonly Buffer[]): Promise<LoadResult> {
  const startedAt = performance.now();
  const latenciesMs = await inParallel(events.length, CONNECTIONS, async (index) => {
    const sentAt = performance.now();
    await pool.query({
      name: 'bench-insert-raw',
      text: 'insert into raw_event (id, raw) values ($1, $2)',
      values: [randomBytes(12).toString('hex'), events[index]],
    });
    return performance.now() - sentAt;
  });
  const seconds = (performance.now() - startedAt) / 1_000;
  return { requests: events.length, perSecond: events.length / seconds, latenciesMs };
}

async function withPool(url: string, work: (pool: Pool) => Promise<void>): Promise<void> {
  const pool = new Pool({ connectionString: url, max: CONNECTIONS });
  try {
    await pool.query('create table raw_event (id text primary key, raw bytea not null)');
    // So that the first round does not pay for connecting.
    await inParallel(CONNECTIONS, CONNECTIONS, () => pool.query('select pg_sleep(0.02)'));
    await work(pool);
  } finally {
    await pool.end();
  }
}

function report({ rounds, peakRssBytes }: Acknowledged, settled: Settled): Report {
  const summary = (which: 'ours' | 'insert') => {
    const latencies = rounds.flatMap((round) => round[which].latenciesMs);
    return {
      perSecond: median(rounds.map((round) => round[which].perSecond)),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
    };
  };
  const [acknowledged, insert] = [summary('ours'), summary('insert')];
  const ratio = median(rounds.map(({ ours, insert }) => ours.perSecond / insert.perSecond));
  const settledRatio = settled.perSecond / insert.perSecond;
  return {
    tables: [
      {
        title: `Stripe's events, ${CONNECTIONS} connections`,
        columns: ['', 'events/s', 'of the floor', 'p50 ms', 'p99 ms', 'peak memory'],
        rows: [
          [
            'floor: insert the raw bytes',
            figure(insert.perSecond),
            '1.00',
            figure(insert.p50Ms),
            figure(insert.p99Ms),
            '',
          ],
          [
            'acknowledged (verified, stored, job)',
            figure(acknowledged.perSecond),
            figure(ratio),
            figure(acknowledged.p50Ms),
            figure(acknowledged.p99Ms),
            mebibytes(peakRssBytes),
          ],
          [
            'settled by one worker',
            figure(settled.perSecond),
            figure(settledRatio),
            '',
            '',
            mebibytes(settled.peakRssBytes),
          ],
        ],
      },
    ],
    notes: [
      `Settled: a worker starts on a backlog of ${settled.events} events of as many accounts; the time runs from the first to the last of them, and each event costs a read of Stripe, a row, an audit entry and a mail job.`,
      'Several events of one account settle in one pass, so a real backlog drains faster. Nothing is looked for at Stripe meanwhile. Commits reach the disk.',
    ],
    figures: {
      connections: CONNECTIONS,
      insert,
      acknowledged: { ...acknowledged, ratioToFloor: ratio, peakRssBytes },
      settled: { ...settled, ratioToFloor: settledRatio },
    },
    charts: {
      'intake.svg': {
        title: "Taking in Stripe's events",
        unit: `events a second at ${CONNECTIONS} connections, one process`,
        bars: [
          { label: 'insert the raw bytes', value: insert.perSecond, isFloor: true },
          {
            label: 'acknowledged',
            value: acknowledged.perSecond,
            remark: `${figure(ratio)} of the floor`,
          },
          { label: 'settled by one worker', value: settled.perSecond, remark: 'row, audit, mail job' },
        ],
      },
    },
  };
}

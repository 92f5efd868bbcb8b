import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type LoadResult, load, requestBytes, times } from '../load.ts';
import { inParallel, type LocalStripe, SECRET_KEY, startLocalStripe } from '../local-stripe.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { median, percentile } from '../statistics.ts';
import { figure, mebibytes } from '../table.ts';

const CUSTOMERS = sized(1_000, 30);
const AT_ONCE = 20;
const EVENTS = sized(100_000, 500);
const LIST_CALLS = sized(300, 20);
/** An invoice stays a draft for an hour before it is charged. */
const AFTER_RENEWAL_SECONDS = 2 * 3_600;
/** What creating and renewing them may take, each. */
const GOAL_SECONDS = 10;

/** The local Stripe: a thousand customers, their renewals, and lists over a hundred thousand events. */
export async function localStripe(bench: Bench): Promise<Report> {
  const stripe = await startLocalStripe(bench);
  const { id: clock } = await stripe.sdk.testHelpers.testClocks.create({
    frozen_time: Math.floor(Date.now() / 1_000),
  });
  bench.say(`local Stripe: creating ${CUSTOMERS} customers with subscriptions`);
  let first = '';
  const creationSeconds = await timed(async () => {
    [first = ''] = await inParallel(CUSTOMERS, AT_ONCE, () => subscribe(stripe, clock));
  });
  const created = await countEvents(stripe);
  const advances: { seconds: number; events: number }[] = [];
  for (let events = created; events < EVENTS; ) {
    bench.say(`local Stripe: renewing them all, ${events.toLocaleString('en')} events so far`);
    const to = (await periodEnd(stripe, first)) + AFTER_RENEWAL_SECONDS;
    const seconds = await timed(() => advance(stripe, clock, to));
    const after = await countEvents(stripe);
    if (after < events + CUSTOMERS) throw new Error('an advance renewed less than everything');
    advances.push({ seconds, events: after - events });
    events = after;
  }
  bench.say('local Stripe: listing events');
  const listed = await countEvents(stripe);
  const lists = await listEvents(stripe);
  const { peakRssBytes } = await stripe.child.memory();
  await stripe.child.close();
  return report({ creationSeconds, created, advances, listed, lists, peakRssBytes });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1_000;
}

async function subscribe({ sdk, price }: LocalStripe, clock: string): Promise<string> {
  const { id: customer } = await sdk.customers.create({
    test_clock: clock,
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  const { id, status } = await sdk.subscriptions.create({ customer, items: [{ price }] });
  if (status !== 'active') throw new Error(`a subscription is ${status} after its first payment`);
  return id;
}

const countsSchema = z.looseObject({ counts: z.looseObject({ event: z.int() }) });

async function countEvents({ child }: LocalStripe): Promise<number> {
  const response = await fetch(`${child.url}/_sandbox`);
  return countsSchema.parse(await response.json()).counts.event;
}

async function periodEnd({ sdk }: LocalStripe, subscription: string): Promise<number> {
  const [item] = (await sdk.subscriptions.retrieve(subscription)).items.data;
  if (!item) throw new Error('a subscription has no item');
  return item.current_period_end;
}

async function advance({ sdk }: LocalStripe, clock: string, to: number): Promise<void> {
  await sdk.testHelpers.testClocks.advance(clock, { frozen_time: to });
  for (;;) {
    const { status } = await sdk.testHelpers.testClocks.retrieve(clock);
    if (status === 'ready') return;
    if (status !== 'advancing') throw new Error(`the test clock is ${status}`);
    await sleep(20);
  }
}

type Lists = Readonly<Record<'newest' | 'fromOldCursor' | 'ofRareType', LoadResult>>;

async function listEvents({ sdk, child }: LocalStripe): Promise<Lists> {
  const { data } = await sdk.events.list({ limit: 1, type: 'customer.subscription.created' });
  const [old] = data;
  if (!old) throw new Error('there is no event to start from');
  const list = (query: string) => {
    const request = requestBytes({
      path: `/v1/events?${query}`,
      headers: { authorization: `Bearer ${SECRET_KEY}` },
    });
    return load({ url: child.url, connections: 1, next: times(LIST_CALLS, [request]) });
  };
  return {
    newest: await list('limit=10'),
    fromOldCursor: await list(`limit=10&starting_after=${old.id}`),
    // Told while the customers were made, so everything newer is looked at and left out first.
    ofRareType: await list('limit=10&type=customer.subscription.created'),
  };
}

type Figures = {
  creationSeconds: number;
  created: number;
  advances: readonly { seconds: number; events: number }[];
  listed: number;
  lists: Lists;
  peakRssBytes: number;
};

function report({ creationSeconds, created, advances, listed, lists, peakRssBytes }: Figures): Report {
  const renewalSeconds = median(advances.map(({ seconds }) => seconds));
  const renewalSecondsMost = Math.max(...advances.map(({ seconds }) => seconds));
  const listing = (name: keyof Lists) => ({
    p50Ms: percentile(lists[name].latenciesMs, 0.5),
    p99Ms: percentile(lists[name].latenciesMs, 0.99),
  });
  const row = (label: string, name: keyof Lists) => {
    const { p50Ms, p99Ms } = listing(name);
    return [label, figure(p50Ms), figure(p99Ms)];
  };
  const customers = CUSTOMERS.toLocaleString('en');
  return {
    tables: [
      {
        title: `The local Stripe, ${customers} customers with subscriptions on one test clock`,
        columns: ['', 'seconds', 'events'],
        rows: [
          ['created through the API', figure(creationSeconds), created.toLocaleString('en')],
          [
            `renewed by advancing the clock a month (median of ${advances.length})`,
            figure(renewalSeconds),
            median(advances.map(({ events }) => events)).toLocaleString('en'),
          ],
          ['the slowest of these', figure(renewalSecondsMost), ''],
        ],
      },
      {
        title: `GET /v1/events?limit=10 over ${listed.toLocaleString('en')} events`,
        columns: ['', 'p50 ms', 'p99 ms'],
        rows: [
          row('the newest', 'newest'),
          row('from a cursor among the oldest', 'fromOldCursor'),
          row('of a type that only the oldest have', 'ofRareType'),
        ],
      },
    ],
    notes: [
      `Created by the real stripe package, ${AT_ONCE} calls at a time, state in a file; peak memory with all events ${mebibytes(peakRssBytes)}.`,
    ],
    figures: {
      customers: CUSTOMERS,
      creationSeconds,
      renewalSeconds,
      renewalSecondsMost,
      events: listed,
      listing: {
        newest: listing('newest'),
        fromOldCursor: listing('fromOldCursor'),
        ofRareType: listing('ofRareType'),
      },
      peakRssBytes,
    },
    charts: {
      'local-stripe.svg': {
        title: `The local Stripe with ${customers} subscriptions`,
        unit: 'seconds, shorter is better',
        bars: [
          { label: 'goal', value: GOAL_SECONDS, isFloor: true },
          { label: 'create them', value: creationSeconds, remark: `${created.toLocaleString('en')} events` },
          { label: 'renew them all', value: renewalSeconds, remark: 'one month by the test clock' },
        ],
      },
    },
  };
}

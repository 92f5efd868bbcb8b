import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { Child } from '../child.ts';
import { seedAccounts } from '../database.ts';
import {
  type Customers,
  type Door,
  deliver,
  keepFromLooking,
  openCustomers,
  untilSettled,
  WEBHOOK_SECRET,
} from '../events.ts';
import { arePeersInstalled, INSTALL } from '../peers/installed.ts';
import type { Bench, Report } from '../section.ts';
import { SIZES, sized } from '../settings.ts';
import { reportIntake } from './intake-report.ts';

export const CONNECTIONS = 20;
export const ROUNDS = sized(5, 3);
export const PER_ROUND = sized(1_000, 200);
const WARM_UP = sized(1_000, 300);
const ALONE = sized(30, 8);
/** So that an event alone finds a process that has nothing else to do. */
const QUIET_MS = 100;

export type Round = { perSecond: number; latenciesMs: readonly number[]; cpuMsPerEvent: number };

/** A server that takes in Stripe's events. */
export type Variant = {
  readonly name: string;
  readonly kind: 'floor' | 'peer' | 'acknowledged' | 'settled';
  readonly accounts: number;
  readonly child: Child;
  readonly door: Door;
  /** Where it is seen that everything is settled; null where that is not waited for. */
  readonly client: Client | null;
  readonly rounds: Round[];
  /** How many accounts have had their event; each has one, so that each is the first about a purchase. */
  told: number;
};

export type Alone = { acknowledgedMs: number; settledMs: number };

/** Signed events acknowledged and settled, beside the floor, two others, and between two sizes of the database. */
export async function intake(bench: Bench): Promise<Report> {
  const customers = await openCustomers(bench);
  const echo = await customers.startEcho(0);
  const variants = [await floor(bench, customers), ...(await peers(bench, customers))];
  for (const accounts of SIZES) variants.push(...(await ours(bench, customers, echo, accounts)));
  try {
    for (const variant of variants) await measure(variant, customers, WARM_UP);
    for (let round = 1; round <= ROUNDS; round++) {
      bench.say(`taking events in, round ${round} of ${ROUNDS}`);
      // One after the other in each round, so that whatever else the machine does meets all of them alike.
      for (const variant of variants) variant.rounds.push(await measure(variant, customers, PER_ROUND));
    }
    const alone = await oneByOne(bench, variants, customers);
    const peaks = new Map<Variant, number>();
    for (const variant of variants) peaks.set(variant, (await variant.child.memory()).peakRssBytes);
    return reportIntake(variants, alone, peaks);
  } finally {
    for (const { child, client } of variants) {
      await child.close();
      await client?.end();
    }
    await echo.close();
    await customers.close();
  }
}

const EVENTS_EACH = WARM_UP + ROUNDS * PER_ROUND + ALONE;

const common = (customers: Customers) => ({
  poolMax: CONNECTIONS,
  webhookSecret: WEBHOOK_SECRET,
  priceId: customers.priceId,
  subscriptions: Array.from({ length: EVENTS_EACH }, (_, index) => customers.of(index + 1)),
});

const variant = (given: Omit<Variant, 'rounds' | 'told'>): Variant => ({ ...given, rounds: [], told: 0 });

async function floor(bench: Bench, customers: Customers): Promise<Variant> {
  const databaseUrl = await bench.createDatabase({ isBare: true });
  const child = await bench.startChild('intake-floor', { ...common(customers), databaseUrl });
  const door = { url: child.url, path: '/' };
  return variant({
    name: 'floor: verify, one insert',
    kind: 'floor',
    accounts: 0,
    child,
    door,
    client: null,
  });
}

const PEERS = [
  { name: 'stripe-sync-engine', script: 'peers/sync-engine', path: '/' },
  { name: 'better-auth, stripe plugin', script: 'peers/better-auth', path: '/api/auth/stripe/webhook' },
] as const;

async function peers(bench: Bench, customers: Customers): Promise<Variant[]> {
  if (!arePeersInstalled()) {
    bench.say(`the peers are not installed and not measured: ${INSTALL}`);
    return [];
  }
  const variants: Variant[] = [];
  for (const { name, script, path } of PEERS) {
    const databaseUrl = await bench.createDatabase({ isBare: true });
    const child = await bench.startChild(script, { ...common(customers), databaseUrl });
    const door = { url: child.url, path };
    variants.push(variant({ name, kind: 'peer', accounts: 0, child, door, client: null }));
  }
  return variants;
}

/** One process that only takes in, and one that takes in and settles, each with a database of its own. */
async function ours(bench: Bench, customers: Customers, echo: Child, accounts: number): Promise<Variant[]> {
  const variants: Variant[] = [];
  for (const kind of ['acknowledged', 'settled'] as const) {
    bench.say(`${kind}: inserting ${accounts.toLocaleString('en')} accounts`);
    const databaseUrl = await bench.createDatabase();
    const known = Array.from({ length: EVENTS_EACH }, (_, index) => customers.of(index + 1).customer);
    await seedAccounts(databaseUrl, Math.max(accounts, EVENTS_EACH), known);
    const client = new Client({ connectionString: databaseUrl });
    await client.connect();
    await keepFromLooking(client);
    const child = await bench.startChild('product', {
      databaseUrl,
      roles: kind === 'settled' ? ['webhooks', 'worker'] : ['webhooks'],
      poolMax: CONNECTIONS,
      stripeUrl: echo.url,
      webhookSecret: WEBHOOK_SECRET,
    });
    const name = `${kind}, ${accounts.toLocaleString('en')} accounts`;
    const door = { url: child.url, path: '/webhooks/stripe' };
    if (kind === 'acknowledged') await client.end();
    const looked = kind === 'settled' ? client : null;
    variants.push(variant({ name, kind, accounts, child, door, client: looked }));
  }
  return variants;
}

async function measure(to: Variant, customers: Customers, count: number): Promise<Round> {
  const events = nextEvents(to, customers, count);
  const cpuBefore = await to.child.cpuMs();
  const startedAt = performance.now();
  const { perSecond, latenciesMs } = await deliver(to.door, events, CONNECTIONS);
  const settled = to.client && count / (await untilSettled(to.client, to.told, { startedAt }));
  const cpuMs = (await to.child.cpuMs()) - cpuBefore;
  return { perSecond: settled ?? perSecond, latenciesMs, cpuMsPerEvent: cpuMs / count };
}

function nextEvents(to: Variant, customers: Customers, count: number): Buffer[] {
  const first = to.told + 1;
  to.told += count;
  return Array.from({ length: count }, (_, index) => customers.eventAbout(first + index));
}

/** Events that come while nothing else is going on. */
async function oneByOne(bench: Bench, variants: readonly Variant[], customers: Customers): Promise<Alone[]> {
  bench.say('taking in events one by one');
  const to = variants.find(({ kind }) => kind === 'settled');
  if (!to?.client) throw new Error('there is nobody who settles');
  const alone: Alone[] = [];
  for (let index = 0; index < ALONE; index++) {
    await sleep(QUIET_MS);
    const events = nextEvents(to, customers, 1);
    const startedAt = performance.now();
    const { latenciesMs } = await deliver(to.door, events, 1);
    const seconds = await untilSettled(to.client, to.told, { startedAt, pauseMs: 1 });
    alone.push({ acknowledgedMs: latenciesMs[0] ?? Number.NaN, settledMs: seconds * 1_000 });
  }
  return alone;
}

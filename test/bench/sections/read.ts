import type { Child } from '../child.ts';
import { keyOf, seedAccounts } from '../database.ts';
import { forSeconds, type LoadResult, load, requestBytes, times } from '../load.ts';
import type { Bench, Report } from '../section.ts';
import { SIZES, sized } from '../settings.ts';
import { median, percentile, spread } from '../statistics.ts';
import { figure, mebibytes, spreadOf } from '../table.ts';

const WAYS = ['floor', 'REST', 'tRPC'] as const;
type Way = (typeof WAYS)[number];

const CONNECTIONS = 20;
const ROUNDS = sized(9, 5);
const ROUND_SECONDS = sized(1, 0.3);
/** By number, because a busy machine does little in a second: after so many a server is as fast as it gets. */
const WARM_UP_REQUESTS = sized(25_000, 15_000);
/** Different callers, spread over all accounts. */
const CALLERS = 2_000;

type Round = LoadResult & { cpuUsPerRequest: number };
type Variant = { size: number; way: Way; child: Child; requests: Buffer[]; rounds: Round[] };

/** `GET /v1/billing` and `billing.getState`, against plain node:http with one prepared statement. */
export async function read(bench: Bench): Promise<Report> {
  const variants: Variant[] = [];
  for (const size of SIZES) variants.push(...(await prepare(bench, size)));
  bench.say('warming up');
  for (const variant of variants) await readThrough(times(WARM_UP_REQUESTS, variant.requests), variant);
  for (let round = 1; round <= ROUNDS; round++) {
    bench.say(`reading, round ${round} of ${ROUNDS}`);
    // One after the other in each round, so that whatever else the machine does meets all of them alike.
    for (const variant of variants)
      variant.rounds.push(await readThrough(forSeconds(ROUND_SECONDS, variant.requests), variant));
  }
  const results = await Promise.all(variants.map((variant) => summarise(variant, variants)));
  for (const child of new Set(variants.map(({ child }) => child))) await child.close();
  return report(results);
}

async function readThrough(next: () => Buffer | null, { child }: Variant): Promise<Round> {
  const cpuBefore = await child.cpuMs();
  const loaded = await load({ url: child.url, connections: CONNECTIONS, next });
  const cpuMs = (await child.cpuMs()) - cpuBefore;
  return { ...loaded, cpuUsPerRequest: (cpuMs * 1_000) / loaded.requests };
}

async function prepare(bench: Bench, size: number): Promise<Variant[]> {
  bench.say(`inserting ${size.toLocaleString('en')} accounts`);
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, size);
  const common = { databaseUrl, poolMax: CONNECTIONS };
  const floor = await bench.startChild('floor', common);
  const product = await bench.startChild('product', {
    ...common,
    roles: ['api'],
    // Reading never calls Stripe.
    stripeUrl: 'http://127.0.0.1:9',
    webhookSecret: 'whsec_bench',
  });
  return WAYS.map((way) => ({
    size,
    way,
    child: way === 'floor' ? floor : product,
    requests: requestsOf(way, size),
    rounds: [],
  }));
}

export function requestsOf(way: Way, accounts: number): Buffer[] {
  const path = way === 'tRPC' ? '/trpc/billing.getState' : '/v1/billing';
  const step = Math.max(1, Math.floor(accounts / CALLERS));
  return Array.from({ length: Math.min(CALLERS, accounts) }, (_, index) =>
    requestBytes({ path, headers: { authorization: `Bearer ${keyOf(1 + index * step)}` } }),
  );
}

async function summarise({ size, way, child, rounds }: Variant, all: readonly Variant[]) {
  const floor = all.find((other) => other.size === size && other.way === 'floor');
  const latencies = rounds.flatMap(({ latenciesMs }) => latenciesMs);
  return {
    accounts: size,
    way,
    requestsPerSecond: median(rounds.map(({ perSecond }) => perSecond)),
    // Of neighbours in time: ratios of the same round, not the ratio of medians.
    ratioToFloor: spread(
      rounds.map(({ perSecond }, round) => perSecond / (floor?.rounds[round]?.perSecond ?? Number.NaN)),
    ),
    cpuUsPerRequest: spread(rounds.map(({ cpuUsPerRequest }) => cpuUsPerRequest)),
    cpuRatioToFloor: spread(
      rounds.map(
        ({ cpuUsPerRequest }, round) =>
          (floor?.rounds[round]?.cpuUsPerRequest ?? Number.NaN) / cpuUsPerRequest,
      ),
    ),
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    peakRssBytes: (await child.memory()).peakRssBytes,
  };
}

function report(results: readonly Awaited<ReturnType<typeof summarise>>[]): Report {
  const named = ({ accounts, way }: { accounts: number; way: Way }) =>
    `${way}, ${accounts.toLocaleString('en')} accounts`;
  return {
    tables: [
      {
        title: `Reading billing state, ${CONNECTIONS} connections`,
        columns: [
          '',
          'requests/s',
          'of the floor',
          'processor µs each',
          'of the floor by it',
          'p50 ms',
          'p99 ms',
          'peak memory',
        ],
        rows: results.map((result) => [
          named(result),
          figure(result.requestsPerSecond),
          spreadOf(result.ratioToFloor),
          spreadOf(result.cpuUsPerRequest),
          spreadOf(result.cpuRatioToFloor),
          figure(result.p50Ms),
          figure(result.p99Ms),
          mebibytes(result.peakRssBytes),
        ]),
      },
    ],
    notes: [
      'Floor: plain node:http, the same read by one prepared statement, no routing, scopes, limits or checks.',
      `Each server is one process; the load generator and PostgreSQL share the machine with it. Medians of ${ROUNDS} interleaved rounds of ${ROUND_SECONDS} s. REST and tRPC are the same process, so its peak memory is one figure.`,
      'By processor time: what the floor takes for a request, of what this takes; the machine’s other work moves it less than the rate.',
      'Rate limits are set so high that they never refuse; every call still takes its token.',
    ],
    goals: results
      .filter(({ way }) => way !== 'floor')
      .map((result) => ({
        number: 7,
        what: `reading by ${named(result)}`,
        goal: '0.75 of the floor',
        measured: spreadOf(result.ratioToFloor),
        isReached: result.ratioToFloor.median >= 0.75,
      })),
    figures: { connections: CONNECTIONS, rounds: ROUNDS, results },
    charts: {
      'read.svg': {
        title: 'Reading billing state',
        unit: `requests a second at ${CONNECTIONS} connections, one process`,
        bars: results.map((result) => ({
          label: named(result),
          value: result.requestsPerSecond,
          ...(result.way === 'floor'
            ? { isFloor: true }
            : { remark: `${figure(result.ratioToFloor.median)} of the floor` }),
        })),
      },
    },
  };
}

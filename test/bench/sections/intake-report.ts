import { arePeersInstalled, INSTALL } from '../peers/installed.ts';
import type { Goal, Report } from '../section.ts';
import { SIZES } from '../settings.ts';
import { median, percentile, type Spread, spread } from '../statistics.ts';
import { figure, mebibytes, spreadOf } from '../table.ts';
import { type Alone, CONNECTIONS, PER_ROUND, ROUNDS, type Variant } from './intake.ts';

type Result = {
  name: string;
  kind: Variant['kind'];
  accounts: number;
  perSecond: number;
  ratioToFloor: Spread;
  cpuMsPerEvent: Spread;
  p50Ms: number;
  p99Ms: number;
  peakRssBytes: number;
};

export function reportIntake(
  variants: readonly Variant[],
  alone: readonly Alone[],
  peaks: ReadonlyMap<Variant, number>,
): Report {
  const floor = variants.find(({ kind }) => kind === 'floor');
  const results = variants.map(({ name, kind, accounts, rounds }, index): Result => {
    const latencies = rounds.flatMap(({ latenciesMs }) => latenciesMs);
    const own = variants[index];
    return {
      name,
      kind,
      accounts,
      perSecond: median(rounds.map(({ perSecond }) => perSecond)),
      // Of neighbours in time: ratios of the same round.
      ratioToFloor: spread(
        rounds.map(({ perSecond }, round) => perSecond / (floor?.rounds[round]?.perSecond ?? Number.NaN)),
      ),
      cpuMsPerEvent: spread(rounds.map(({ cpuMsPerEvent }) => cpuMsPerEvent)),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      peakRssBytes: (own && peaks.get(own)) ?? Number.NaN,
    };
  });
  const one = {
    acknowledgedMs: spread(alone.map(({ acknowledgedMs }) => acknowledgedMs)),
    settledMs: spread(alone.map(({ settledMs }) => settledMs)),
  };
  return {
    tables: [
      {
        title: `Stripe's events, ${CONNECTIONS} connections`,
        columns: ['', 'events/s', 'of the floor', 'processor ms an event', 'p50 ms', 'p99 ms', 'peak memory'],
        rows: results.map((result) => [
          result.name,
          figure(result.perSecond),
          spreadOf(result.ratioToFloor),
          spreadOf(result.cpuMsPerEvent),
          figure(result.p50Ms),
          figure(result.p99Ms),
          mebibytes(result.peakRssBytes),
        ]),
      },
      {
        title: 'One event alone, on a process that rests',
        columns: ['', 'ms'],
        rows: [
          ['acknowledged', spreadOf(one.acknowledgedMs)],
          ['settled', spreadOf(one.settledMs)],
        ],
      },
      growth(results),
    ],
    notes: [
      'Floor: node:http, the signature verified, the bytes inserted once for each id. The same events at the same concurrency for all, each about another account; latencies are those of the acknowledgement.',
      'Settled: one process takes in and settles; from the first event sent to the last one settled. Each costs a read of Stripe (which answers at once, from a process of its own), a row, audit log, feed and a queued mail. Processor time is that of the process, taking in included; PostgreSQL is not in it.',
      'stripe-sync-engine writes what the payload says and keeps the newest by its time; no deduplication, audit log, feed or mails. better-auth updates its row to what the payload says; no deduplication and no order either. Both are set up as their documentation does, and acknowledge after writing.',
      ...(arePeersInstalled() ? [] : [`The two others are not installed and not in it: ${INSTALL}`]),
      `Median (least–most) of ${ROUNDS} interleaved rounds of ${PER_ROUND} events; every server, the load and PostgreSQL share the machine. Commits reach the disk.`,
    ],
    goals: goals(results, one),
    figures: { connections: CONNECTIONS, rounds: ROUNDS, perRound: PER_ROUND, results, alone: one },
    charts: {
      'intake.svg': {
        title: "Taking in Stripe's events",
        unit: `of the floor, at ${CONNECTIONS} connections, one process each`,
        bars: results.map(({ name, kind, ratioToFloor, cpuMsPerEvent }) => ({
          label: name,
          value: ratioToFloor.median,
          remark: `${figure(cpuMsPerEvent.median)} ms of processor time an event`,
          isFloor: kind === 'floor' || kind === 'peer',
        })),
      },
    },
  };
}

const [SMALL = 0, LARGE = 0] = SIZES;

function growth(results: readonly Result[]) {
  const of = (kind: Result['kind'], accounts: number) =>
    results.find((result) => result.kind === kind && result.accounts === accounts);
  return {
    title: `From ${SMALL.toLocaleString('en')} to ${LARGE.toLocaleString('en')} accounts`,
    columns: ['', 'rate', 'processor time an event'],
    rows: (['acknowledged', 'settled'] as const).map((kind) => {
      const [small, large] = [of(kind, SMALL), of(kind, LARGE)];
      const times = (read: (result: Result) => number) =>
        `${figure((large ? read(large) : Number.NaN) / (small ? read(small) : Number.NaN))}×`;
      return [
        kind,
        times(({ ratioToFloor }) => ratioToFloor.median),
        times(({ cpuMsPerEvent }) => cpuMsPerEvent.median),
      ];
    }),
  };
}

function goals(results: readonly Result[], one: Record<keyof Alone, Spread>): Goal[] {
  const of = (kind: Result['kind']) => {
    const found = results.find((result) => result.kind === kind && result.accounts === SMALL);
    if (!found) throw new Error(`nothing was ${kind}`);
    return found;
  };
  const [acknowledged, settled] = [of('acknowledged'), of('settled')];
  const atLeast = (what: string, least: number, { ratioToFloor }: Result): Goal => ({
    number: 1,
    what,
    goal: `${least} of the floor`,
    measured: spreadOf(ratioToFloor),
    isReached: ratioToFloor.median >= least,
  });
  const atMost = (number: number, what: string, most: number, unit: string, value: Spread): Goal => ({
    number,
    what,
    goal: `at most ${most} ${unit}`,
    measured: spreadOf(value),
    isReached: value.median <= most,
  });
  const peak = settled.peakRssBytes;
  return [
    atLeast('acknowledged', 0.8, acknowledged),
    atLeast('settled', 0.3, settled),
    atMost(1, 'processor time an event, taken in and settled', 1.2, 'ms', settled.cpuMsPerEvent),
    atMost(1, 'one event alone, acknowledged', 5, 'ms', one.acknowledgedMs),
    atMost(1, 'one event alone, settled', 50, 'ms', one.settledMs),
    {
      number: 5,
      what: 'peak memory, taking in and settling',
      goal: 'under 220 MB',
      measured: `${figure(peak / 1e6)} MB`,
      isReached: peak < 220e6,
    },
  ];
}

import type { Child } from '../child.ts';
import { seedAccounts } from '../database.ts';
import { load, times } from '../load.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { slope } from '../statistics.ts';
import { figure, mebibytes } from '../table.ts';
import { requestsOf } from './read.ts';

const ACCOUNTS = 2_000;
const CONNECTIONS = 20;
const WARM_UP = sized(10_000, 500);
const STEPS = sized(5, 2);
const PER_STEP = sized(10_000, 500);

type Sample = { requests: number; heapBytes: number };

/** The live heap of the service after more and more reads, over REST and tRPC in turn. */
export async function memory(bench: Bench): Promise<Report> {
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, ACCOUNTS);
  const product = await bench.startChild('product', {
    databaseUrl,
    poolMax: CONNECTIONS,
    roles: ['api'],
    stripeUrl: 'http://127.0.0.1:9',
    webhookSecret: 'whsec_bench',
  });
  bench.say('memory: warming up');
  await readBoth(product, WARM_UP);
  const samples: Sample[] = [{ requests: 0, heapBytes: (await product.memory()).heapBytes }];
  for (let step = 1; step <= STEPS; step++) {
    bench.say(
      `memory: ${(step * PER_STEP).toLocaleString('en')} of ${(STEPS * PER_STEP).toLocaleString('en')} reads`,
    );
    await readBoth(product, PER_STEP);
    samples.push({ requests: step * PER_STEP, heapBytes: (await product.memory()).heapBytes });
  }
  const { peakRssBytes } = await product.memory();
  await product.close();
  return report(samples, peakRssBytes);
}

async function readBoth({ url }: Child, requests: number): Promise<void> {
  for (const way of ['REST', 'tRPC'] as const)
    await load({ url, connections: CONNECTIONS, next: times(requests / 2, requestsOf(way, ACCOUNTS)) });
}

function report(samples: readonly Sample[], peakRssBytes: number): Report {
  const bytesPerRequest = slope(samples.map(({ requests, heapBytes }) => ({ x: requests, y: heapBytes })));
  return {
    tables: [
      {
        title: 'Live heap after a full collection, REST and tRPC in turn',
        columns: ['reads after warm-up', 'heap'],
        rows: samples.map(({ requests, heapBytes }) => [requests.toLocaleString('en'), mebibytes(heapBytes)]),
      },
    ],
    notes: [
      `Growth along the line that fits best: ${figure(bytesPerRequest)} bytes a request. Peak memory ${mebibytes(peakRssBytes)}.`,
    ],
    figures: { samples, bytesPerRequest, peakRssBytes },
    charts: {},
  };
}

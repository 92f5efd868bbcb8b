import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { childStarter } from '../bench/child.ts';
import { load, requestBytes, times } from '../bench/load.ts';
import { untilTrue } from '../support/service.ts';
import { sign, WEBHOOK_SECRET } from '../support/stripe.ts';
import { openCallers } from './support/callers.ts';
import { type Deployment, openDeployment } from './support/deployment.ts';
import { buy, count } from './support/purchase.ts';

/** 200,000 requests and 20,000 events in a full run. */
const REQUESTS = Number(process.env['REQUESTS'] ?? 20_000);
const EVENTS = REQUESTS / 10;
const WARM_UP_ROUNDS = 4;
const ROUNDS = 5;
const CONNECTIONS = 8;
/** Live heap that may stay behind for each request. */
const MOST_BYTES = 25;

let deployment: Deployment;
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'driftstack-heap-'));
  deployment = await openDeployment();
});
afterAll(async () => {
  await deployment?.close();
  await rm(directory, { recursive: true, force: true });
});

it(`the heap stays flat over ${REQUESTS} requests and ${EVENTS} events`, async () => {
  const { databaseUrl, db, localStripe, told } = deployment;
  const [key = ''] = await openCallers(db, 1);
  const product = await childStarter(directory)('product', {
    databaseUrl,
    poolMax: 10,
    roles: ['api', 'webhooks', 'worker'],
    stripeUrl: localStripe.url,
    webhookSecret: WEBHOOK_SECRET,
  });
  for (let n = 0; n < 20; n += 1) await buy(deployment, 'subscription');
  const bodies = told.splice(0);
  const headers = { authorization: `Bearer ${key}` };
  const reads = [
    requestBytes({ path: '/v1/billing', headers }),
    requestBytes({ path: '/trpc/billing.getState', headers }),
    requestBytes({ path: '/v1/account/audit-log', headers }),
  ];
  let made = 0;
  // Each event is new to us and about a customer we know: it is stored, queued and its account looked at.
  const deliveries = (events: number) =>
    Array.from({ length: events }, () => {
      const event: object = JSON.parse(bodies[made % bodies.length] ?? '');
      const body = JSON.stringify({ ...event, id: `evt_heap_${++made}` });
      return requestBytes({
        method: 'POST',
        path: '/webhooks/stripe',
        headers: { 'content-type': 'application/json', 'stripe-signature': sign(body, new Date()) },
        body,
      });
    });
  const round = async (requests: number, events: number) => {
    await load({ url: product.url, connections: CONNECTIONS, next: times(requests, reads) });
    await load({ url: product.url, connections: CONNECTIONS, next: times(events, deliveries(events)) });
    await untilTrue(
      async () => (await count(deployment, "from stripe_event where state = 'received'")) === 0,
      300_000,
    );
    return (await product.memory()).heapBytes;
  };
  // Compiled code and caches that fill: most of it comes in the first thousands.
  for (let n = 1; n < WARM_UP_ROUNDS; n += 1) await round(REQUESTS / ROUNDS, EVENTS / ROUNDS);
  const heaps = [await round(REQUESTS / ROUNDS, EVENTS / ROUNDS)];
  for (let n = 0; n < ROUNDS; n += 1) heaps.push(await round(REQUESTS / ROUNDS, EVENTS / ROUNDS));
  await product.close();

  const bytesPerRequest = slope(heaps) / ((REQUESTS + EVENTS) / ROUNDS);
  console.log(
    `live heap after each of ${heaps.length} rounds: ${heaps.map((bytes) => (bytes / 1_048_576).toFixed(2)).join(', ')} MiB; ${bytesPerRequest.toFixed(1)} bytes a request`,
  );
  expect(bytesPerRequest).toBeLessThan(MOST_BYTES);
}, 3_600_000);

/** How much is added from one figure to the next, by least squares: one figure alone can be off by chance. */
function slope(figures: readonly number[]): number {
  const middle = (figures.length - 1) / 2;
  const mean = figures.reduce((sum, figure) => sum + figure, 0) / figures.length;
  const covariance = figures.reduce((sum, figure, index) => sum + (index - middle) * (figure - mean), 0);
  return covariance / figures.reduce((sum, _, index) => sum + (index - middle) ** 2, 0);
}

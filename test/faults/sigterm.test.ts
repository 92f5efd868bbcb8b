import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { untilTrue } from '../support/service.ts';
import { openCallers, read } from './support/callers.ts';
import { type Deployment, type Instance, openDeployment, post } from './support/deployment.ts';
import { buy, count, expectBought, type Kind } from './support/purchase.ts';

const ROUNDS = Number(process.env['STOPS'] ?? 2);
/** As often as a load balancer of an impatient operator asks. */
const ASKS_EVERY_MS = 100;
/** What was heard so long ago is not gone by: an instance serves for a second after it has said that it stops. */
const HOLDS_FOR_MS = 500;

let deployment: Deployment;
beforeAll(async () => {
  deployment = await openDeployment();
});
afterAll(() => deployment?.close());

it('an instance stopped under load fails no request of a client that follows readiness, and ends in time', async () => {
  const keys = await openCallers(deployment.db, 80);
  const bought = new Map<string, Kind>();
  for (let n = 0; n < 2 * ROUNDS; n += 1) bought.set(await buy(deployment, 'subscription'), 'subscription');
  const bodies = deployment.told.splice(0);
  let instances: Instance[] = [await deployment.start()];
  let ready: readonly string[] = [];
  let readySinceMs = Number.NEGATIVE_INFINITY;
  let running = true;
  let requests = 0;
  const failed: string[] = [];

  const asking = async () => {
    while (running) {
      const askedAtMs = performance.now();
      const answers = await Promise.all(
        instances.map(async ({ url }) => ((await isReady(url)) ? [url] : [])),
      );
      ready = answers.flat();
      readySinceMs = askedAtMs;
      await delay(ASKS_EVERY_MS);
    }
  };
  const aReady = async () => {
    await untilTrue(() => ready.length > 0 && performance.now() - readySinceMs < HOLDS_FOR_MS, 60_000);
    return ready[requests++ % ready.length] ?? '';
  };
  const reading = async (first: number) => {
    for (let n = first; running; n += 1) {
      const url = await aReady();
      const answer = await read(url, keys[n % keys.length] ?? '').catch(String);
      if (typeof answer === 'string' || answer.status !== 200)
        failed.push(`${url} ${JSON.stringify(answer)}`);
      await delay(20);
    }
  };
  const delivering = async () => {
    for (const body of bodies) {
      const url = await aReady();
      if (!(await post(url, body))) failed.push(`${url} a delivery`);
      await delay(40);
    }
  };
  const stopping = async () => {
    const took: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const next = await deployment.start();
      const [old] = instances;
      if (!old) throw new Error('there is always one');
      instances = [old, next];
      await untilTrue(() => ready.includes(next.url), 30_000);
      const began = performance.now();
      const code = await old.stop();
      took.push(Math.round(performance.now() - began));
      expect(code).toBe(0);
      instances = [next];
    }
    running = false;
    return took;
  };
  const [took] = await Promise.all([
    stopping(),
    asking(),
    delivering(),
    reading(0),
    reading(25),
    reading(50),
  ]);

  expect(failed).toEqual([]);
  for (const ms of took) expect(ms).toBeLessThan(10_000);
  await untilTrue(
    async () =>
      (await count(deployment, "from stripe_event where state = 'received'")) === 0 &&
      (await count(deployment, "from email where state = 'pending'")) === 0,
    60_000,
  );
  for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
  console.log(`${ROUNDS} stops: ${requests} requests, none failed; ended after ${took.join(', ')} ms`);
}, 240_000);

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/readyz`);
    await response.arrayBuffer();
    return response.ok;
  } catch (error) {
    // Nobody listens there any more.
    if (error instanceof TypeError) return false;
    throw error;
  }
}

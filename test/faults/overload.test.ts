import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { childStarter } from '../bench/child.ts';
import { requestBytes } from '../bench/load.ts';
import { percentile } from '../bench/statistics.ts';
import { mebibytes } from '../bench/table.ts';
import { WEBHOOK_SECRET } from '../support/stripe.ts';
import { openCallers } from './support/callers.ts';
import { type Deployment, openDeployment } from './support/deployment.ts';
import { press } from './support/press.ts';

/** 60 in a full run. */
const SECONDS = Number(process.env['OVERLOAD_SECONDS'] ?? 4);
/** More at a time than an instance works on. */
const TOO_MANY = 600;
const ENOUGH = 50;
const MOST_HEAP_BYTES = 8 * 1_048_576;

let deployment: Deployment;
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'driftstack-overload-'));
  deployment = await openDeployment();
});
afterAll(async () => {
  await deployment?.close();
  await rm(directory, { recursive: true, force: true });
});

it('with more to do than it can, an instance serves what it takes and tells the rest to come back', async () => {
  const [key = ''] = await openCallers(deployment.db, 1);
  const product = await childStarter(directory)('product', {
    databaseUrl: deployment.databaseUrl,
    poolMax: 10,
    roles: ['api'],
    stripeUrl: deployment.localStripe.url,
    webhookSecret: WEBHOOK_SECRET,
  });
  const request = requestBytes({ path: '/v1/billing', headers: { authorization: `Bearer ${key}` } });
  const pressBy = (callers: number) => press(product.url, request, { callers, seconds: SECONDS });
  await pressBy(ENOUGH);
  const heapBefore = (await product.memory()).heapBytes;
  const before = await pressBy(ENOUGH);
  const during = await pressBy(TOO_MANY);
  const after = await pressBy(ENOUGH);
  const heapAfter = (await product.memory()).heapBytes;

  expect(new Set(before.map(({ status }) => status))).toEqual(new Set([200]));
  expect(new Set(during.map(({ status }) => status))).toEqual(new Set([200, 503]));
  for (const { status, retryAfter } of during) if (status === 503) expect(retryAfter).toBe('1');
  expect(new Set(after.map(({ status }) => status))).toEqual(new Set([200]));

  const waits = (of: number) => during.flatMap(({ status, tookMs }) => (status === of ? [tookMs] : []));
  const [served, refused] = [waits(200), waits(503)];
  const rate = (answers: readonly unknown[]) => Math.round(answers.length / SECONDS);
  const ms = (figures: readonly number[]) =>
    `${percentile(figures, 0.5).toFixed(0)} ms, the slowest hundredth after ${percentile(figures, 0.99).toFixed(0)} ms`;
  console.log(
    `${ENOUGH} callers: ${rate(before)} answers a second; ${TOO_MANY}, for ${SECONDS} s: ${rate(served)} a second after ${ms(served)}, and ${rate(refused)} a second told to come back after ${ms(refused)}; ${ENOUGH} again: ${rate(after)}; live heap ${mebibytes(heapBefore)} before and ${mebibytes(heapAfter)} after`,
  );
  // A ratio within this run: nine tenths on an idle machine, a thirtieth without turns for refusals.
  expect(rate(served)).toBeGreaterThan(rate(before) / 4);
  expect(heapAfter - heapBefore).toBeLessThan(MOST_HEAP_BYTES);
  await product.close();
}, 600_000);

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { childStarter } from '../bench/child.ts';
import { WEBHOOK_SECRET } from '../support/stripe.ts';
import { type Answer, openCallers, read } from './support/callers.ts';
import { type Deployment, openDeployment } from './support/deployment.ts';

const SECONDS = Number(process.env['OVERLOAD_SECONDS'] ?? 4);
/** More at a time than an instance works on. */
const TOO_MANY = 600;
const ENOUGH = 50;

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
    stripeUrl: deployment.sandbox.url,
    webhookSecret: WEBHOOK_SECRET,
  });
  const press = async (atOnce: number): Promise<Answer[]> => {
    const answers: Answer[] = [];
    const endsAt = performance.now() + SECONDS * 1_000;
    const caller = async () => {
      while (performance.now() < endsAt) answers.push(await read(product.url, key));
    };
    await Promise.all(Array.from({ length: atOnce }, caller));
    return answers;
  };
  const served = (answers: Answer[]) => answers.filter(({ status }) => status === 200);
  await press(ENOUGH);
  const before = await press(ENOUGH);
  const during = await press(TOO_MANY);
  const after = await press(ENOUGH);

  expect(new Set(before.map(({ status }) => status))).toEqual(new Set([200]));
  expect(new Set(during.map(({ status }) => status))).toEqual(new Set([200, 503]));
  for (const { status, retryAfter } of during) if (status === 503) expect(retryAfter).toBe('1');
  expect(new Set(after.map(({ status }) => status))).toEqual(new Set([200]));
  const waits = served(during)
    .map(({ tookMs }) => tookMs)
    .sort((a, b) => a - b);
  const rate = (answers: Answer[]) => Math.round(served(answers).length / SECONDS);
  console.log(
    `${ENOUGH} callers: ${rate(before)} answers a second; ${TOO_MANY}: ${rate(during)} a second, the slowest hundredth after ${Math.round(waits[Math.floor(waits.length * 0.99)] ?? 0)} ms, ${during.length - served(during).length} told to come back; ${ENOUGH} again: ${rate(after)}`,
  );
  await product.close();
}, 120_000);

import { afterAll, beforeAll, expect, it } from 'vitest';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { type Deployment, openDeployment, post } from './support/deployment.ts';
import { buy, count } from './support/purchase.ts';

let deployment: Deployment;
beforeAll(async () => {
  deployment = await openDeployment();
});
afterAll(() => deployment?.close());

const unprocessed = () => count(deployment, "from stripe_event where state = 'received'");

it('a killed worker leaves its events to the next one, which goes on with them within five seconds', async () => {
  const first = await deployment.start({ ROLES: 'webhooks,worker' });
  // Stripe keeps it waiting, so that it dies with the jobs in its hands.
  const slow = {
    on: 'api',
    fault: { kind: 'latency', ms: 60_000 },
    method: 'GET',
    path: '/v1/subscriptions',
    times: 100,
  };
  await hook('POST', slow);
  for (let n = 0; n < 3; n += 1) await buy(deployment, 'subscription');
  for (const body of deployment.told.splice(0)) expect(await post(first.url, body)).toBe(true);
  await untilTrue(async () => (await count(deployment, 'from account_sync where leased_until > now()')) > 0);
  await first.kill();
  reached('a worker is killed while Stripe keeps it waiting');
  await hook('DELETE');
  expect(await unprocessed()).toBeGreaterThan(0);

  const next = await deployment.start({ ROLES: 'worker' });
  const began = performance.now();
  await untilTrue(async () => (await unprocessed()) === 0, 30_000);
  const tookMs = Math.round(performance.now() - began);
  console.log(`all events of a killed worker were processed ${tookMs} ms after the next one was up`);
  expect(tookMs).toBeLessThan(5_000);
  await next.kill();
}, 120_000);

async function hook(method: 'POST' | 'DELETE', body?: object): Promise<void> {
  const response = await fetch(`${deployment.localStripe.url}/_sandbox/faults`, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(await response.text());
}

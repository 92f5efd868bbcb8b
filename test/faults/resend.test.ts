import { afterAll, beforeAll, expect, it } from 'vitest';
import { failNextMails, listMails } from '../../server/local-stripe/mails.ts';
import { untilTrue } from '../support/service.ts';
import { type Deployment, openDeployment, post } from './support/deployment.ts';
import { buy, count, expectBought, type Kind } from './support/purchase.ts';

let deployment: Deployment;
beforeAll(async () => {
  deployment = await openDeployment({ mailsPerSecond: 2 });
});
afterAll(() => deployment?.close());

it('two workers, a limit of two mails a second and answers lost after mails were taken: none lost, none sent twice', async () => {
  const bought = new Map<string, Kind>();
  for (const kind of ['subscription', 'trial_pack', 'subscription', 'trial_pack'] as const)
    bought.set(await buy(deployment, kind), kind);
  const [first] = [await deployment.start(), await deployment.start()];
  failNextMails(deployment.localStripe.world, 'timeout_after', 2);
  for (const body of deployment.told.splice(0)) expect(await post(first?.url ?? '', body)).toBe(true);
  await untilTrue(async () => (await count(deployment, "from email where state = 'sent'")) === 6, 90_000);
  for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
  expect(listMails(deployment.localStripe.world)).toHaveLength(6);
  expect(await count(deployment, 'from email where attempts > 1')).toBeGreaterThan(0);
}, 150_000);

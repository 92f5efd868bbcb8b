import { afterAll, beforeAll, expect, it } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import {
  failNextMails,
  listMails,
  type MailFault,
  pendingMailFault,
} from '../../server/local-stripe/mails.ts';
import { queueThousands } from '../support/mails.ts';
import { untilTrue } from '../support/service.ts';
import { reached, type State } from '../support/states.ts';
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
  reached('two workers share the pace');
}, 150_000);

it('workers killed over their batches, and answers of every kind that can be lost: 900 mails, each once', async () => {
  const { db, localStripe } = deployment;
  const before = listMails(localStripe.world).length;
  const { id } = await db.transaction((tx) =>
    createAccount(tx, { email: 'many@driftstack.test', now: new Date() }),
  );
  await queueThousands(db, id, 900, new Date());
  const pending = () => count(deployment, `from email where account_id = '${id}' and state = 'pending'`);
  const underWay = () =>
    count(deployment, `from email where account_id = '${id}' and state = 'pending' and batch_id is not null`);
  const worker = () => deployment.start({ ROLES: 'worker' });
  // Before anybody sends: on a busy machine the first worker may be done when the next one has come up.
  failNextMails(localStripe.world, 'timeout_before', 1);
  const other = await worker();
  for (const fault of ['timeout_after', 'under_way', 'server_error', 'timeout_before'] as const) {
    const doomed = await worker();
    failNextMails(localStripe.world, fault, 1);
    await untilTrue(async () => (await underWay()) > 0 || (await pending()) === 0, 60_000);
    reached('a worker is killed while mails are under their lease', (await underWay()) > 0);
    await doomed.kill();
  }
  await untilTrue(async () => (await pending()) === 0, 120_000);
  await other.kill();
  const to = listMails(localStripe.world)
    .slice(0, listMails(localStripe.world).length - before)
    .map((mail) => mail.to[0]);
  expect(new Set(to).size).toBe(900);
  expect(to).toHaveLength(900);
  expect(await count(deployment, `from email where account_id = '${id}' and state = 'sent'`)).toBe(900);
  expect(await count(deployment, `from email where account_id = '${id}' and attempts > 1`)).toBeGreaterThan(
    0,
  );
}, 300_000);

const sent = () => count(deployment, "from email where state = 'sent'");

const FAULTS: readonly (readonly [MailFault, State])[] = [
  ['rate_limited', 'Resend has had too many requests'],
  ['server_error', 'Resend fails'],
  ['garbage', 'Resend answers with garbage'],
  ['timeout_before', 'mails are cut off before they are taken in'],
  ['timeout_after', 'mails are taken in and the answer is lost'],
  ['under_way', 'mails are sent again while the provider is still at it'],
];

it('whatever goes wrong with a batch, each of its mails is sent once', async () => {
  const { world } = deployment.localStripe;
  const instance = await deployment.start();
  for (const [fault, state] of FAULTS) {
    const before = await sent();
    const bought = [await buy(deployment, 'subscription'), await buy(deployment, 'subscription')];
    failNextMails(world, fault, 1);
    const bodies = deployment.told.splice(0);
    expect(await Promise.all(bodies.map((body) => post(instance.url, body)))).not.toContain(false);
    await untilTrue(async () => (await sent()) === before + 4, 90_000);
    expect(pendingMailFault(world), 'it went wrong').toBeUndefined();
    for (const accountId of bought) await expectBought(deployment, accountId, 'subscription');
    reached(state);
  }
  const batches = await count(
    deployment,
    'from (select from email where batch_id is not null group by batch_id having count(*) > 1) as several',
  );
  reached('several mails go out in one batch', batches > 0);
}, 300_000);

import { afterAll, beforeAll, expect, it } from 'vitest';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { type Deployment, type Instance, openDeployment, post } from './support/deployment.ts';
import { buy, count, expectBought, type Kind } from './support/purchase.ts';

/** How often a process stands still. */
const PAUSES = Number(process.env['PAUSES'] ?? 3);
const PURCHASES = 8;
const SETTLE_MS = 120_000;
const MOST_TRIES = 20;
const WORKER = { ROLES: 'webhooks,worker' };

type Leased = 'account_sync' | 'email';

let deployment: Deployment;
beforeAll(async () => {
  deployment = await openDeployment();
});
afterAll(() => deployment?.close());

const leased = (table: Leased) => count(deployment, `from ${table} where leased_until > now()`);
const isAtRest = async (): Promise<boolean> =>
  (await count(deployment, "from stripe_event where state = 'received'")) === 0 &&
  (await count(deployment, "from email where state = 'pending'")) === 0;

/** As a machine does that is suspended, or has no processor to give. */
it(
  `${PAUSES} times a process stands still for longer than its leases last, another takes over, and it goes on`,
  async () => {
    const bought = new Map<string, Kind>();
    const instances = [await deployment.start(WORKER)];
    for (let pause = 0; pause < PAUSES; pause += 1) {
      const frozen = instances.at(-1);
      if (!frozen) throw new Error('one is always running');
      // Sometimes with accounts in its hands, sometimes with mails.
      const caught = await freezeAtWork(frozen, pause % 3 === 2 ? 'email' : 'account_sync', bought);
      const next = await deployment.start(WORKER);
      instances.push(next);
      await untilTrue(
        async () => (await leased('account_sync')) + (await leased('email')) === 0 && (await isAtRest()),
        SETTLE_MS,
      );
      frozen.process.kill('SIGCONT');
      reached('a process stands still with an account under its lease, and goes on', caught.accounts > 0);
      reached('a process stands still with mails under their lease, and goes on', caught.mails > 0);
      // What it did not answer is delivered again, and it goes on with whatever it was at.
      for (const body of [...(await caught.unanswered), ...deployment.told.splice(0)])
        expect(await post(next.url, body)).toBe(true);
      await untilTrue(isAtRest, SETTLE_MS);
    }
    for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
    expect(await count(deployment, "from stripe_event where state <> 'done'")).toBe(0);
    for (const { process, stop } of instances) {
      expect(process.exitCode, 'it still runs').toBeNull();
      await stop();
    }
  },
  PAUSES * SETTLE_MS * 3,
);

/** Gives it work until it is caught with something under its lease, however quick it is, and stops it there. */
async function freezeAtWork(worker: Instance, table: Leased, bought: Map<string, Kind>) {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    for (let n = 0; n < PURCHASES; n += 1) {
      const kind = n % 3 === 0 ? 'trial_pack' : 'subscription';
      bought.set(await buy(deployment, kind), kind);
    }
    let isDelivered = false;
    const unanswered = Promise.all(
      deployment.told.splice(0).map(async (body) => ((await post(worker.url, body)) ? [] : [body])),
    ).then((bodies) => {
      isDelivered = true;
      return bodies.flat();
    });
    await untilTrue(async () => (await leased(table)) > 0 || (isDelivered && (await isAtRest())), SETTLE_MS);
    worker.process.kill('SIGSTOP');
    const [accounts, mails] = [await leased('account_sync'), await leased('email')];
    if ((table === 'email' ? mails : accounts) > 0) return { accounts, mails, unanswered };
    worker.process.kill('SIGCONT');
    deployment.told.push(...(await unanswered));
  }
  throw new Error('it was never caught at work');
}

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { startCrashProxy } from './support/crash-proxy.ts';
import { type Deployment, type Instance, openDeployment, post } from './support/deployment.ts';
import { buy, count, expectBought, type Kind } from './support/purchase.ts';

/** How often a worker dies in the middle of what it asks of the database. */
const CRASHES = Number(process.env['CRASHES'] ?? 6);
/** 50 in a full run, 1,000 for those who have the time. */
const KILLS = Number(process.env['KILLS'] ?? 8);
const WORKERS = 3;
const PURCHASES_PER_KILL = 5;
/** For the last mails, of which each worker sends two a second. */
const SETTLE_MS = 120_000;
/** A kill takes some five seconds, and three times that on a machine with other work. */
const TIMEOUT_MS = 2 * SETTLE_MS + KILLS * 15_000;
const TOLD_EVERY = 50;

let deployment: Deployment;
beforeAll(async () => {
  deployment = await openDeployment();
});
afterAll(() => deployment?.close());

const unprocessed = () => count(deployment, "from stripe_event where state = 'received'");
const unsent = () => count(deployment, "from email where state = 'pending'");

describe('a worker process killed with kill -9', () => {
  it(
    `${KILLS} times at random under load, three at work: nothing is lost and nothing doubled`,
    async () => {
      const workers: Instance[] = [];
      for (let n = 0; n < WORKERS; n += 1) workers.push(await deployment.start({ ROLES: 'webhooks,worker' }));
      const bought = new Map<string, Kind>();
      let delivered = 0;
      let refused = 0;
      let kills = 0;
      let killing = true;
      let shops = true;
      const anyWorker = () => workers[Math.floor(Math.random() * workers.length)]?.url ?? '';

      const shopping = async () => {
        while (killing) {
          // No faster than the killer goes on, or the mails would take minutes afterwards.
          await untilTrue(() => bought.size < (kills + 1) * PURCHASES_PER_KILL || !killing, 60_000);
          const kind = Math.random() < 0.3 ? 'trial_pack' : 'subscription';
          bought.set(await buy(deployment, kind), kind);
        }
        shops = false;
      };
      const delivering = async () => {
        while (shops || deployment.told.length > 0) {
          const body = deployment.told.shift();
          if (body === undefined) {
            await untilTrue(() => deployment.told.length > 0 || !shops, 60_000);
            continue;
          }
          if (await post(anyWorker(), body)) delivered += 1;
          else {
            refused += 1;
            reached('a delivery is cut off by a kill');
            deployment.told.push(body);
            await new Promise((resolve) => setImmediate(resolve));
          }
        }
      };
      const killer = async () => {
        for (; kills < KILLS; kills += 1) {
          const index = Math.floor(Math.random() * workers.length);
          const busy = delivered;
          await untilTrue(() => delivered > busy + 1 + Math.random() * 6, 60_000);
          const [events, accounts, mails] = await Promise.all([
            unprocessed(),
            count(deployment, 'from account_sync where leased_until > now()'),
            count(deployment, "from email where state = 'pending' and leased_until > now()"),
          ]);
          await workers[index]?.kill();
          reached('a worker is killed with events that it has acknowledged', events > 0);
          reached('a worker is killed while an account is under its lease', accounts > 0);
          reached('a worker is killed while mails are under their lease', mails > 0);
          workers[index] = await deployment.start({ ROLES: 'webhooks,worker' });
          if ((kills + 1) % TOLD_EVERY === 0)
            console.log(`${kills + 1} of ${KILLS} kills, ${bought.size} purchases, ${delivered} events`);
        }
        killing = false;
      };
      await Promise.all([killer(), shopping(), delivering(), delivering(), delivering()]);
      await untilTrue(async () => (await unprocessed()) === 0 && (await unsent()) === 0, SETTLE_MS);

      for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
      reached(
        'mails are tried again after a kill',
        (await count(deployment, 'from email where attempts > 1')) > 0,
      );
      expect(await count(deployment, 'from stripe_event')).toBe(delivered);
      expect(await count(deployment, "from stripe_event where state <> 'done'")).toBe(0);
      console.log(
        `${KILLS} kills: ${bought.size} purchases, ${delivered} events delivered, ${refused} deliveries refused or cut off`,
      );
      for (const worker of workers) await worker.kill();
    },
    TIMEOUT_MS,
  );

  it(`${CRASHES} times in the middle of an event: the next one finishes it`, async () => {
    const bought = new Map<string, Kind>();
    const at: number[] = [];
    for (let crash = 0; crash < CRASHES; crash += 1) {
      const proxy = await startCrashProxy({
        target: deployment.databaseUrl,
        unit: 'statement',
        onCrash: () => void worker.process.kill('SIGKILL'),
      });
      const worker = await deployment.start({ ROLES: 'webhooks,worker', DATABASE_URL: proxy.url });
      const kind = crash % 2 === 0 ? 'subscription' : 'trial_pack';
      bought.set(await buy(deployment, kind), kind);
      at.push(1 + Math.floor(Math.random() * 70));
      proxy.arm(at.at(-1) ?? 1);
      while (!proxy.crashed()) {
        const body = deployment.told.shift();
        if (body === undefined) await untilTrue(() => proxy.crashed() || deployment.told.length > 0, 60_000);
        else if (!(await post(worker.url, body))) deployment.told.unshift(body);
      }
      await worker.kill();
      expect(worker.process.signalCode).toBe('SIGKILL');
      await proxy.close();
      reached('a worker is killed in the middle of a statement');
    }
    const last = await deployment.start({ ROLES: 'webhooks,worker' });
    for (let body = deployment.told.shift(); body !== undefined; body = deployment.told.shift())
      if (!(await post(last.url, body))) deployment.told.unshift(body);
    await untilTrue(async () => (await unprocessed()) === 0 && (await unsent()) === 0, SETTLE_MS);
    for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
    console.log(`killed at statement ${at.join(', ')} of its work`);
    await last.kill();
  }, 600_000);
});

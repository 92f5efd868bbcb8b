import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { connectDatabase } from '../../server/database/connection.ts';
import { startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { migrate } from '../../server/database/migrate.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { sign } from '../support/stripe.ts';
import { type Answer, openCallers, read } from './support/callers.ts';
import { openDeployment } from './support/deployment.ts';
import { buy, count, expectBought, type Kind } from './support/purchase.ts';

/** 20 in a full run. */
const RESTARTS = Number(process.env['RESTARTS'] ?? 4);
const CALLERS = 60;

it(`PostgreSQL, restarted ${RESTARTS} times under load, costs some answers 503 with Retry-After and nothing else`, async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'driftstack-restarts-'));
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, durable: false });
  const setUp = await connectDatabase({ url: postgres.url, poolMax: 2, applicationName: 'set-up' });
  await migrate(setUp);
  await setUp.close();
  const deployment = await openDeployment({ databaseUrl: postgres.url });
  try {
    const keys = await openCallers(deployment.db, CALLERS);
    const bought = new Map<string, Kind>();
    for (let n = 0; n < 2 * RESTARTS; n += 1) {
      const kind = n % 2 === 0 ? 'subscription' : 'trial_pack';
      bought.set(await buy(deployment, kind), kind);
    }
    const instance = await deployment.start();
    const reads: Answer[] = [];
    const deliveries: Answer[] = [];
    let running = true;
    const reading = async (first: number) => {
      for (let n = first; running; n += 1) {
        reads.push(await read(instance.url, keys[n % keys.length] ?? ''));
        await delay(30);
      }
    };
    const delivering = async () => {
      const bodies = deployment.told.splice(0);
      for (let body = bodies.shift(); body !== undefined; body = bodies.shift()) {
        const answer = await deliver(instance.url, body);
        deliveries.push(answer);
        if (answer.status !== 200) bodies.push(body);
        await delay(30);
      }
    };
    const goodReads = () => reads.filter(({ status }) => status === 200).length;
    const restarting = async () => {
      const pauses: number[] = [];
      for (let n = 0; n < RESTARTS; n += 1) {
        const [good, bad] = [goodReads(), reads.length - goodReads()];
        await untilTrue(() => goodReads() > good + 20, 60_000);
        // What `pg_ctl restart -m immediate` does: no farewell, recovery from the log afterwards.
        process.kill(await postmaster(dataDir), 'SIGQUIT');
        const began = performance.now();
        await untilTrue(() => reads.length - goodReads() > bad, 60_000);
        const goodAgain = goodReads();
        await untilTrue(() => goodReads() > goodAgain, 60_000);
        pauses.push(Math.round(performance.now() - began));
      }
      running = false;
      return pauses;
    };
    const [pauses] = await Promise.all([restarting(), delivering(), reading(0), reading(20), reading(40)]);

    for (const { status, retryAfter } of [...reads, ...deliveries]) {
      expect([200, 503]).toContain(status);
      if (status === 503) expect(retryAfter).toMatch(/^[1-9]\d*$/);
    }
    for (const { status } of deliveries)
      reached('PostgreSQL is killed while events are delivered', status === 503);
    for (const { status } of reads) reached('PostgreSQL is killed while a state is read', status === 503);
    expect(instance.process.exitCode).toBeNull();
    await untilTrue(
      async () =>
        (await count(deployment, "from stripe_event where state = 'received'")) === 0 &&
        (await count(deployment, "from email where state = 'pending'")) === 0,
      90_000,
    );
    for (const [accountId, kind] of bought) await expectBought(deployment, accountId, kind);
    console.log(
      `${RESTARTS} restarts: good answers again ${pauses.join(', ')} ms after the kill; ${reads.length} reads, ${reads.length - goodReads()} of them 503; ${deliveries.filter(({ status }) => status === 503).length} of ${deliveries.length} deliveries 503`,
    );
  } finally {
    await deployment.close();
    await postgres.close();
    await rm(dataDir, { recursive: true, force: true });
  }
}, 600_000);

async function deliver(url: string, body: string): Promise<Answer> {
  const began = performance.now();
  const response = await fetch(`${url}/webhooks/stripe`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'stripe-signature': sign(body, new Date()) },
    body,
  });
  await response.arrayBuffer();
  const { status, headers } = response;
  return { status, retryAfter: headers.get('retry-after'), tookMs: performance.now() - began };
}

async function postmaster(dataDir: string): Promise<number> {
  const file = await readFile(join(dataDir, 'cluster', 'postmaster.pid'), 'utf8');
  return Number(file.split('\n')[0]);
}

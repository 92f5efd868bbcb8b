import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startCountingProxy } from '../counting-proxy.ts';
import { seedAccounts, withClient } from '../database.ts';
import { keepFromLooking, openCustomers, WEBHOOK_SECRET } from '../events.ts';
import type { Bench, Goal, Report } from '../section.ts';
import { SIZES, sized } from '../settings.ts';
import { type Spread, spread } from '../statistics.ts';
import { SWITCHES } from '../switches.ts';
import { figure, spreadOf } from '../table.ts';

const SETTLE_MS = 5_000;
const WINDOW_MS = sized(20_000, 5_000);
const STARTS = sized(5, 2);
const READY_DEADLINE_MS = 60_000;
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url));

type Rest = { statementsPerSecond: number; cpuMsPerSecond: number; heapBytes: number; rssBytes: number };
type Starts = { wrongMs: Spread; readyMs: Spread; readyEmbeddedMs: Spread };

/** A service that has nothing to do, and how long it takes to be there. */
export async function rest(bench: Bench): Promise<Report> {
  const resting = await measureRest(bench);
  bench.say('starting the service again and again');
  const starts = {
    wrongMs: await measureWrong(),
    readyMs: await measureReady(bench),
    readyEmbeddedMs: await measureEmbedded(bench),
  };
  return report(resting, starts);
}

async function measureRest(bench: Bench): Promise<Rest> {
  bench.say('watching a service at rest');
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, SIZES[0] ?? 1_000);
  await withClient(databaseUrl, keepFromLooking);
  const proxy = await startCountingProxy(databaseUrl);
  const child = await bench.startChild('product', {
    databaseUrl: proxy.url,
    roles: ['api', 'webhooks', 'worker'],
    poolMax: 20,
    stripeUrl: 'http://127.0.0.1:9',
    webhookSecret: WEBHOOK_SECRET,
  });
  await sleep(SETTLE_MS);
  proxy.take();
  const cpuBefore = await child.cpuMs();
  const startedAt = performance.now();
  await sleep(WINDOW_MS);
  const { statementsInside, statementsOutside } = proxy.take();
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpuMs = (await child.cpuMs()) - cpuBefore;
  const { heapBytes, rssBytes } = await child.memory();
  await child.close();
  await proxy.close();
  const statementsPerSecond = (statementsInside + statementsOutside) / seconds;
  return { statementsPerSecond, cpuMsPerSecond: cpuMs / seconds, heapBytes, rssBytes };
}

/** What `npm start` runs, told nothing but this. */
function startService(env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, [...SWITCHES, 'server/main.ts'], {
    cwd: CHECKOUT,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: 'ignore',
  });
}

async function measureWrong(): Promise<Spread> {
  const times: number[] = [];
  for (let index = 0; index < STARTS; index++) {
    const startedAt = performance.now();
    const [code] = await once(startService({ DATABASE_URL: 'mysql://127.0.0.1/billing' }), 'exit');
    if (code !== 1) throw new Error(`a wrong configuration ended with ${code}`);
    times.push(performance.now() - startedAt);
  }
  return spread(times);
}

/** Until it says that it is ready; then it is ended again. */
async function timeReady(env: Record<string, string>): Promise<number> {
  const port = await freePort();
  const startedAt = performance.now();
  const child = startService({ ...env, PORT: String(port) });
  const ended = once(child, 'exit');
  try {
    for (;;) {
      if (await isReady(port)) return performance.now() - startedAt;
      if (child.exitCode !== null) throw new Error(`the service ended with ${child.exitCode}`);
      if (performance.now() - startedAt > READY_DEADLINE_MS) throw new Error('the service never got ready');
      await sleep(10);
    }
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`)).status === 200;
  } catch {
    // Nobody listens yet.
    return false;
  }
}

async function measureReady(bench: Bench): Promise<Spread> {
  const customers = await openCustomers(bench);
  const echo = await customers.startEcho(0);
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, SIZES.at(-1) ?? 1_000);
  const times: number[] = [];
  for (let index = 0; index < STARTS; index++) {
    const env = {
      DATABASE_URL: databaseUrl,
      STRIPE_SECRET_KEY: 'sk_test_bench_bench',
      STRIPE_API_BASE: echo.url,
      STRIPE_WEBHOOK_SECRETS: 'whsec_benchbench',
    };
    times.push(await timeReady(env));
  }
  await echo.close();
  await customers.close();
  return spread(times);
}

/** With everything of its own: PostgreSQL, the local Stripe, and what both kept from the start before. */
async function measureEmbedded(bench: Bench): Promise<Spread> {
  const env = {
    DATA_DIR: await mkdtemp(join(bench.directory, 'embedded-')),
    SANDBOX_PORT: String(await freePort()),
  };
  await timeReady(env);
  const times: number[] = [];
  for (let index = 0; index < STARTS; index++) times.push(await timeReady(env));
  return spread(times);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}

function report(resting: Rest, starts: Starts): Report {
  const { statementsPerSecond, cpuMsPerSecond, heapBytes, rssBytes } = resting;
  const under = (number: number, what: string, most: number, value: Spread): Goal => ({
    number,
    what,
    goal: `under ${figure(most)} ms`,
    measured: spreadOf(value),
    isReached: value.median < most,
  });
  const accounts = (SIZES.at(-1) ?? 0).toLocaleString('en');
  return {
    tables: [
      {
        title: 'At rest: API, webhooks and worker in one process',
        columns: ['', ''],
        rows: [
          ['statements a second', figure(statementsPerSecond)],
          ['processor time, ms a second', figure(cpuMsPerSecond)],
          ['live heap, MB', figure(heapBytes / 1e6)],
          ['all memory after a collection, MB', figure(rssBytes / 1e6)],
        ],
      },
      {
        title: 'Starts',
        columns: ['', 'ms'],
        rows: [
          ['a wrong configuration is named', spreadOf(starts.wrongMs)],
          [`ready, on a database of ${accounts} accounts`, spreadOf(starts.readyMs)],
          ['ready, with PostgreSQL and the local Stripe of its own', spreadOf(starts.readyEmbeddedMs)],
        ],
      },
    ],
    notes: [
      `Statements are counted between the process and PostgreSQL over ${WINDOW_MS / 1_000} s. Starts are those of server/main.ts from the beginning of the process, median (least–most) of ${STARTS}.`,
    ],
    goals: [
      {
        number: 5,
        what: 'statements a second at rest',
        goal: 'under 2',
        measured: figure(statementsPerSecond),
        isReached: statementsPerSecond < 2,
      },
      {
        number: 5,
        what: 'memory at rest',
        goal: 'under 150 MB',
        measured: `${figure(rssBytes / 1e6)} MB`,
        isReached: rssBytes < 150e6,
      },
      under(6, 'a wrong configuration named', 500, starts.wrongMs),
      under(6, 'ready with data there', 2_000, starts.readyMs),
      under(6, 'ready with data there, all parts its own', 2_000, starts.readyEmbeddedMs),
    ],
    figures: { resting, starts },
    charts: {},
  };
}

import { z } from 'zod';
import type { Child } from '../child.ts';
import { keyOf, seedAccounts, withClient } from '../database.ts';
import {
  type Customers,
  deliver,
  keepFromLooking,
  openCustomers,
  untilSettled,
  WEBHOOK_SECRET,
} from '../events.ts';
import { LOOK_PAUSE_MS, watchHeld } from '../held.ts';
import { forSeconds, load, requestBytes } from '../load.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { percentile } from '../statistics.ts';
import { figure } from '../table.ts';

const CONNECTIONS = 20;
const FAR_MS = 100;
const ACCOUNTS = sized(1_500, 300);
const WARM_UP = sized(300, 20);
const SLOW_MS = 2_000;
const SUCCESS_PAGES = 50;
/** What one process may read of Stripe in a second, as the operator is told. */
const READS_ALLOWED = 100;

type Far = {
  accountsPerSecond: number;
  readsPerAccount: number;
  mostReadsInASecond: number;
  longestTransactionMs: number;
  longestLockMs: number;
};
type Success = {
  readP50Ms: number;
  readP99Ms: number;
  readWorstMs: number;
  reads: number;
  pages: number;
  pagesToldToWait: number;
};

/** A Stripe that is far away, and one that is slow: what waits for it, and what does not. */
export async function distance(bench: Bench): Promise<Report> {
  const customers = await openCustomers(bench);
  const far = await settleFar(bench, customers);
  const success = await readBesideSuccessPages(bench, customers);
  await customers.close();
  return report(far, success);
}

async function settleFar(bench: Bench, customers: Customers): Promise<Far> {
  bench.say(`settling ${ACCOUNTS} accounts with Stripe ${FAR_MS} ms away`);
  const total = WARM_UP + ACCOUNTS;
  const numbers = Array.from({ length: total }, (_, index) => index + 1);
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(
    databaseUrl,
    total,
    numbers.map((number) => customers.of(number).customer),
  );
  const echo = await customers.startEcho(FAR_MS);
  return await withClient(databaseUrl, async (client) => {
    await keepFromLooking(client);
    const child = await bench.startChild('product', {
      databaseUrl,
      roles: ['webhooks', 'worker'],
      poolMax: CONNECTIONS,
      stripeUrl: echo.url,
      webhookSecret: WEBHOOK_SECRET,
      readsPerSecond: READS_ALLOWED,
    });
    const door = { url: child.url, path: '/webhooks/stripe' };
    const tell = (from: number, to: number) =>
      deliver(door, numbers.slice(from, to).map(customers.eventAbout), CONNECTIONS);
    await tell(0, WARM_UP);
    await untilSettled(client, WARM_UP, { startedAt: performance.now() });
    await readsOf(echo);
    const startedAt = performance.now();
    const held = watchHeld(databaseUrl);
    await tell(WARM_UP, total);
    const seconds = await untilSettled(client, total, { startedAt });
    const longest = await held.stop();
    const { reads, mostInASecond } = await readsOf(echo);
    await child.close();
    await echo.close();
    return {
      accountsPerSecond: ACCOUNTS / seconds,
      readsPerAccount: reads / ACCOUNTS,
      mostReadsInASecond: mostInASecond,
      ...longest,
    };
  });
}

const echoSchema = z.strictObject({ reads: z.int(), mostInASecond: z.int() });

/** What was read of it since the last time it was asked. */
async function readsOf({ url }: Child): Promise<z.output<typeof echoSchema>> {
  return echoSchema.parse(await (await fetch(`${url}/_echo`)).json());
}

const mintedSchema = z.looseObject({ checkout_session_id: z.string() });

/** Success pages of one key that wait for Stripe, and the plain reads of somebody else meanwhile. */
async function readBesideSuccessPages(bench: Bench, customers: Customers): Promise<Success> {
  bench.say(`reading beside ${SUCCESS_PAGES} success pages with Stripe at ${SLOW_MS} ms`);
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, 10, [customers.of(1).customer]);
  const [near, slow] = [await customers.startEcho(0), await customers.startEcho(SLOW_MS)];
  const start = (echo: Child) =>
    bench.startChild('product', {
      databaseUrl,
      roles: ['api'],
      poolMax: CONNECTIONS,
      stripeUrl: echo.url,
      webhookSecret: WEBHOOK_SECRET,
    });
  const authorization = { authorization: `Bearer ${keyOf(1)}` };
  const minter = await start(near);
  const minted = await fetch(`${minter.url}/v1/billing/checkout-session`, {
    method: 'POST',
    headers: { ...authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ tier: 'api_builder', billing_period: 'monthly' }),
  });
  const { checkout_session_id: id } = mintedSchema.parse(await minted.json());
  await minter.close();

  const product = await start(slow);
  const plain = requestBytes({
    path: '/v1/billing',
    headers: { authorization: `Bearer ${keyOf(5)}` },
  });
  const read = (seconds: number) =>
    load({ url: product.url, connections: 1, next: forSeconds(seconds, [plain]) });
  await read(1);
  const page = `${product.url}/v1/billing?checkout_session_id=${id}`;
  const pages = Promise.all(
    Array.from({ length: SUCCESS_PAGES }, () => fetch(page, { headers: authorization })),
  );
  const { latenciesMs } = await read(SLOW_MS / 1_000);
  const answers = await pages;
  // Too many of one key at once are told to wait, which is an answer; anything else would be none.
  const strange = answers.find(({ status }) => status !== 200 && status !== 429);
  if (strange) throw new Error(`a success page was answered ${strange.status}: ${await strange.text()}`);
  await product.close();
  await near.close();
  await slow.close();
  return {
    readP50Ms: percentile(latenciesMs, 0.5),
    readP99Ms: percentile(latenciesMs, 0.99),
    readWorstMs: percentile(latenciesMs, 1),
    reads: latenciesMs.length,
    pages: SUCCESS_PAGES,
    pagesToldToWait: answers.filter(({ status }) => status === 429).length,
  };
}

function report(far: Far, success: Success): Report {
  return {
    tables: [
      {
        title: `One process with Stripe ${FAR_MS} ms away`,
        columns: ['', ''],
        rows: [
          ['accounts settled a second', figure(far.accountsPerSecond)],
          ['reads of Stripe an account', figure(far.readsPerAccount)],
          ['most reads within one second', figure(far.mostReadsInASecond)],
          ['longest transaction seen meanwhile, ms', figure(far.longestTransactionMs)],
          ['longest transaction with an advisory or row lock, ms', figure(far.longestLockMs)],
        ],
      },
      {
        title: `A stranger's plain reads beside ${success.pages} success pages of one key, Stripe at ${SLOW_MS / 1_000} s`,
        columns: ['', 'ms'],
        rows: [
          ['p50', figure(success.readP50Ms)],
          ['p99', figure(success.readP99Ms)],
          ['worst', figure(success.readWorstMs)],
        ],
      },
    ],
    notes: [
      `STRIPE_READS_PER_SECOND=${READS_ALLOWED}. ${ACCOUNTS} events of as many accounts at ${CONNECTIONS} connections, from the first one sent to the last one settled. Transactions and locks: looked at every ${LOOK_PAUSE_MS} ms in pg_stat_activity and pg_locks.`,
      `${success.pagesToldToWait} of the ${success.pages} success pages were told to come again: so many of one key do not wait for Stripe at once.`,
    ],
    goals: [
      {
        number: 2,
        what: `accounts settled a second, Stripe ${FAR_MS} ms away`,
        goal: '95',
        measured: figure(far.accountsPerSecond),
        isReached: far.accountsPerSecond >= 95,
      },
      {
        number: 2,
        what: 'most reads of Stripe within one second',
        goal: `at most ${READS_ALLOWED}`,
        measured: figure(far.mostReadsInASecond),
        isReached: far.mostReadsInASecond <= READS_ALLOWED,
      },
      {
        number: 2,
        what: 'longest transaction while Stripe is asked',
        goal: 'under 50 ms',
        measured: `${figure(far.longestTransactionMs)} ms`,
        isReached: far.longestTransactionMs < 50,
      },
      {
        number: 4,
        what: `a stranger's read beside ${success.pages} success pages`,
        goal: 'under 50 ms',
        measured: `${figure(success.readP50Ms)} ms, at worst ${figure(success.readWorstMs)}`,
        isReached: success.readWorstMs < 50,
      },
    ],
    figures: { far, success },
    charts: {},
  };
}

import { type Counted, startCountingProxy } from '../counting-proxy.ts';
import { keyOf, seedAccounts } from '../database.ts';
import { type LoadResult, load, requestBytes, times } from '../load.ts';
import { inParallel, type LocalStripe, SECRET_KEY, startLocalStripe } from '../local-stripe.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { median, percentile, spread } from '../statistics.ts';
import { figure, mebibytes, spreadOf } from '../table.ts';

const CONNECTIONS = 10;
const ROUNDS = sized(3, 3);
const PER_ROUND = sized(250, 30);
const WARM_UP = sized(50, 20);
const COUNTED = sized(50, 10);

/** `POST /v1/billing/checkout-session`, against the one call to the local Stripe that it consists of. */
export async function mint(bench: Bench): Promise<Report> {
  const accounts = WARM_UP + ROUNDS * PER_ROUND + COUNTED;
  bench.say(`minting: making ${accounts} customers`);
  const stripe = await startLocalStripe(bench);
  const customers = await inParallel(accounts, 20, async (index) => {
    return (await stripe.sdk.customers.create({ email: `account-${index}@example.test` })).id;
  });
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, accounts, customers);
  const common = { poolMax: 20, roles: ['api'], stripeUrl: stripe.child.url, webhookSecret: 'whsec_bench' };
  const product = await bench.startChild('product', { ...common, databaseUrl });

  // Each account mints once: the same call again would find its session open and make none.
  const minted = Array.from({ length: accounts }, (_, index) => mintRequest(index + 1));
  const bare = customers.map((customer) => bareRequest(stripe, customer));
  const send = (url: string, requests: readonly Buffer[]) =>
    load({ url, connections: CONNECTIONS, next: times(requests.length, requests) });
  await send(product.url, minted.slice(0, WARM_UP));
  const rounds: { minting: LoadResult; stripe: LoadResult }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    bench.say(`minting, round ${round + 1} of ${ROUNDS}`);
    const from = WARM_UP + round * PER_ROUND;
    rounds.push({
      minting: await send(product.url, minted.slice(from, from + PER_ROUND)),
      stripe: await send(stripe.child.url, bare.slice(from, from + PER_ROUND)),
    });
  }
  const { peakRssBytes } = await product.memory();
  await product.close();
  const counted = await countStatements(bench, { ...common, databaseUrl }, minted.slice(-COUNTED));
  await stripe.child.close();
  return report(rounds, counted, peakRssBytes);
}

function mintRequest(account: number): Buffer {
  return requestBytes({
    method: 'POST',
    path: '/v1/billing/checkout-session',
    headers: { authorization: `Bearer ${keyOf(account)}`, 'content-type': 'application/json' },
    body: JSON.stringify({ tier: 'api_builder', billing_period: 'monthly' }),
  });
}

function bareRequest({ price }: LocalStripe, customer: string): Buffer {
  return requestBytes({
    method: 'POST',
    path: '/v1/checkout/sessions',
    headers: {
      authorization: `Bearer ${SECRET_KEY}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({
      mode: 'subscription',
      customer,
      'line_items[0][price]': price,
      'line_items[0][quantity]': '1',
      success_url: 'https://your.app/success',
      cancel_url: 'https://your.app/cancel',
    }).toString(),
  });
}

/** In a process of its own, so that counting does not slow down what is timed. */
async function countStatements(
  bench: Bench,
  options: { databaseUrl: string },
  requests: readonly Buffer[],
): Promise<Counted> {
  const proxy = await startCountingProxy(options.databaseUrl);
  try {
    const product = await bench.startChild('product', { ...options, databaseUrl: proxy.url });
    const [first, ...rest] = requests;
    if (!first) throw new Error('there is nothing to count');
    // The first call also learns the price, once for the process.
    await load({ url: product.url, connections: 1, next: times(1, [first]) });
    proxy.take();
    await load({ url: product.url, connections: 1, next: times(rest.length, rest) });
    const { transactions, statementsInside, statementsOutside } = proxy.take();
    await product.close();
    const perCall = (count: number) => count / rest.length;
    return {
      transactions: perCall(transactions),
      statementsInside: perCall(statementsInside),
      statementsOutside: perCall(statementsOutside),
    };
  } finally {
    await proxy.close();
  }
}

function report(
  rounds: readonly { minting: LoadResult; stripe: LoadResult }[],
  counted: Counted,
  peakRssBytes: number,
): Report {
  const summary = (which: 'minting' | 'stripe') => {
    const latencies = rounds.flatMap((round) => round[which].latenciesMs);
    return {
      perSecond: median(rounds.map((round) => round[which].perSecond)),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
    };
  };
  const [minting, stripe] = [summary('minting'), summary('stripe')];
  const ratio = spread(rounds.map((round) => round.minting.perSecond / round.stripe.perSecond));
  const roundTrips = counted.statementsInside + counted.statementsOutside;
  const row = (name: string, { perSecond, p50Ms, p99Ms }: typeof minting, rest: readonly string[]) => [
    name,
    figure(perSecond),
    figure(p50Ms),
    figure(p99Ms),
    ...rest,
  ];
  return {
    tables: [
      {
        title: `Minting a new Checkout session, ${CONNECTIONS} connections`,
        columns: ['', 'calls/s', 'p50 ms', 'p99 ms', 'of bare Stripe', 'peak memory'],
        rows: [
          row('bare call of the local Stripe', stripe, ['1.00', '']),
          row('POST /v1/billing/checkout-session', minting, [spreadOf(ratio), mebibytes(peakRssBytes)]),
        ],
      },
      {
        title: 'What one such call sends to PostgreSQL',
        columns: ['', 'per call'],
        rows: [
          ['transactions', figure(counted.transactions)],
          ['statements in them, begin and commit included', figure(counted.statementsInside)],
          ['statements by themselves', figure(counted.statementsOutside)],
        ],
      },
    ],
    notes: [
      'Each call is by an account that has a Stripe customer and no open session; commits reach the disk.',
      'The statement by itself finds the caller. The local Stripe runs on the same cores, so a call costs both.',
    ],
    goals: [
      {
        number: 8,
        what: 'round trips to PostgreSQL of a minting',
        goal: 'at most 5',
        measured: figure(roundTrips),
        isReached: roundTrips <= 5,
      },
    ],
    figures: { connections: CONNECTIONS, minting, bareStripe: stripe, ratio, perCall: counted, peakRssBytes },
    charts: {},
  };
}

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { type CallLimiter, UNLIMITED } from '../../server/stripe/api/limiter.ts';

/** What goes wrong with a request; what is asked for is an empty list otherwise. */
type Fault = { status: number; code?: string; headers?: Record<string, string> } | 'hang up';
let server: Server;
let faults: Fault[];
let arrived: number;
const told: string[] = [];
const limiter: CallLimiter = {
  async turn({ urgency, endpoint }) {
    told.push(`${urgency} ${endpoint}`);
    return true;
  },
  hold: (durationMs, endpoint = 'all') => void told.push(`hold ${durationMs} ${endpoint}`),
};
const LISTING = 'GET /v1/subscriptions';
const TOO_MANY = { status: 429, code: 'rate_limit', headers: { 'retry-after': '0.01' } };

beforeEach(async () => {
  faults = [];
  arrived = 0;
  told.length = 0;
  server = createServer((request, response) => {
    arrived += 1;
    const fault = faults.shift();
    if (fault === 'hang up') {
      request.socket.destroy();
      return;
    }
    response.writeHead(fault?.status ?? 200, { 'content-type': 'application/json', ...fault?.headers });
    const { code } = fault ?? {};
    response.end(
      JSON.stringify(
        fault
          ? { error: { type: 'invalid_request_error', code, message: 'As ordered' } }
          : { object: 'list', data: [], has_more: false, url: '/v1/subscriptions' },
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const connect = (limits: CallLimiter) => {
  const { port } = server.address() as AddressInfo;
  return connectStripe({ secretKey: 'sk_test_1', apiBase: `http://127.0.0.1:${port}`, limiter: limits });
};

it('asks for a turn for each request, by the operation that Stripe counts, and says whether a person waits', async () => {
  const stripe = connect(limiter);
  await stripe.within(5_000).listSubscriptions('cus_1');
  await stripe.within(5_000, 'person').listSubscriptions('cus_1');
  faults = [{ status: 404, code: 'resource_missing' }];
  await stripe.within(5_000).readSubscription('sub_1MowQVLkdIwHu7ixeRlqHVzs');
  faults = [{ status: 404, code: 'resource_missing' }];
  await stripe
    .within(5_000)
    .readCheckoutSession('cs_test_a11YYufWQzNY63zpQ6QSNRQhkUpVph4WRmzW0zWJO2znZKdVujZ0N0S22u');
  expect(told).toEqual([
    `work ${LISTING}`,
    `person ${LISTING}`,
    'work GET /v1/subscriptions/:id',
    'work GET /v1/checkout/sessions/:id',
  ]);
});

it.each<[string, Fault]>([
  ['a connection that breaks', 'hang up'],
  ['a failure of Stripe', { status: 503 }],
  ['a conflict', { status: 409 }],
])('asks for a turn again where the SDK itself repeats a request after %s', async (_what, fault) => {
  faults = [fault];
  await connect(limiter).within(5_000).listSubscriptions('cus_1');
  expect(arrived).toBe(2);
  expect(told).toEqual([`work ${LISTING}`, `work ${LISTING}`]);
});

it('lets the SDK repeat nothing once the time of the call is over', async () => {
  faults = [{ status: 503 }];
  const refused = Promise.withResolvers<void>();
  let turns = 0;
  const late: CallLimiter = {
    ...UNLIMITED,
    async turn(call) {
      turns += 1;
      const may = await UNLIMITED.turn(call);
      if (!may) refused.resolve();
      return may;
    },
  };
  // The SDK waits for half a second at least.
  await expect(connect(late).within(300).listSubscriptions('cus_1')).rejects.toMatchObject({ status: 504 });
  await refused.promise;
  expect([turns, arrived]).toEqual([2, 1]);
});

it('holds everybody as long as Stripe asks where it says that it is enough, and asks for a turn again', async () => {
  faults = [
    TOO_MANY,
    { ...TOO_MANY, headers: { ...TOO_MANY.headers, 'stripe-rate-limited-reason': 'global-rate' } },
  ];
  await connect(limiter).within(5_000).listSubscriptions('cus_1');
  const turn = `work ${LISTING}`;
  expect(told).toEqual([turn, 'hold 10 all', turn, 'hold 10 all', turn]);
});

it.each(['endpoint-rate', 'endpoint-concurrency'])(
  'holds the endpoint alone where Stripe says %s',
  async (reason) => {
    faults = [{ ...TOO_MANY, headers: { ...TOO_MANY.headers, 'stripe-rate-limited-reason': reason } }];
    await connect(limiter).within(5_000).listSubscriptions('cus_1');
    expect(told).toEqual([`work ${LISTING}`, `hold 10 ${LISTING}`, `work ${LISTING}`]);
  },
);

it.each<[string, Fault]>([
  ['an object is locked by another call', { ...TOO_MANY, code: 'lock_timeout' }],
  [
    'one object is asked for too often',
    { ...TOO_MANY, headers: { ...TOO_MANY.headers, 'stripe-rate-limited-reason': 'resource-specific' } },
  ],
])('holds nobody else where %s', async (_what, fault) => {
  faults = [fault];
  await connect(limiter).within(5_000).listSubscriptions('cus_1');
  expect(told).toEqual([`work ${LISTING}`, `work ${LISTING}`]);
});

it('makes no call whose turn does not come in time, and says that trying again helps', async () => {
  const never = { ...limiter, turn: async () => false };
  await expect(connect(never).within(5_000).listSubscriptions('cus_1')).rejects.toMatchObject({
    status: 504,
    message: expect.stringContaining('Please try again shortly'),
  });
  expect(arrived).toBe(0);
});

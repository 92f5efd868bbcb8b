import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { CallLimiter } from '../../server/stripe/api/limiter.ts';

/** Answers as told; a subscription list that is empty otherwise. */
let server: Server;
let refusals: number;
const told: string[] = [];
const limiter: CallLimiter = {
  async turn(urgency) {
    told.push(urgency);
    return true;
  },
  hold: (durationMs) => void told.push(`hold ${durationMs}`),
};

beforeEach(async () => {
  refusals = 0;
  told.length = 0;
  server = createServer((_request, response) => {
    if (refusals > 0) {
      refusals -= 1;
      response.writeHead(429, { 'content-type': 'application/json', 'retry-after': '0.01' });
      response.end(
        '{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many requests"}}',
      );
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"object":"list","data":[],"has_more":false,"url":"/v1/subscriptions"}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const connect = (limits: CallLimiter) => {
  const { port } = server.address() as AddressInfo;
  return connectStripe({ secretKey: 'sk_test_1', apiBase: `http://127.0.0.1:${port}`, limiter: limits });
};

it('asks for a turn for each try, and says whether a person waits', async () => {
  const stripe = connect(limiter);
  await stripe.within(5_000).listSubscriptions('cus_1');
  await stripe.within(5_000, 'person').listSubscriptions('cus_1');
  expect(told).toEqual(['work', 'person']);
});

it('holds everybody as long as Stripe asks where it says that it is enough, and asks for a turn again', async () => {
  refusals = 2;
  await connect(limiter).within(5_000).listSubscriptions('cus_1');
  expect(told).toEqual(['work', 'hold 10', 'work', 'hold 10', 'work']);
});

it('makes no call whose turn does not come in time, and says that trying again helps', async () => {
  let calls = 0;
  server.on('request', () => {
    calls += 1;
  });
  const never = { ...limiter, turn: async () => false };
  await expect(connect(never).within(5_000).listSubscriptions('cus_1')).rejects.toMatchObject({
    status: 504,
    message: expect.stringContaining('Please try again shortly'),
  });
  expect(calls).toBe(0);
});

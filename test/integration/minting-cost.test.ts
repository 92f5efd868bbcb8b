import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Account } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { type CountingProxy, startCountingProxy } from '../bench/counting-proxy.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

let http: TestHttp;
let proxy: CountingProxy | undefined;
beforeAll(async () => {
  http = await startHttp({
    through: async (url) => {
      proxy = await startCountingProxy(url);
      return proxy.url;
    },
  });
  // What a process learns once: the prices, and the statements of every connection.
  const { key } = await http.openAccount();
  for (const path of [CHECKOUT, PACK]) await http.call(path, { key, json: bodyOf(path) });
});
afterAll(async () => {
  await http.close();
  await proxy?.close();
});

const CHECKOUT = '/v1/billing/checkout-session';
const PACK = '/v1/billing/trial-pack';
const PORTAL = '/v1/billing/portal-session';
const bodyOf = (path: string, tier = 'api_builder') =>
  path === CHECKOUT ? { tier, billing_period: 'monthly' } : {};

let caller: Awaited<ReturnType<TestHttp['openAccount']>>;
beforeEach(async () => {
  caller = await http.openAccount();
});

/** The round trips of a call, that which finds the caller included: whatever is sent is waited for by itself. */
async function roundTrips(
  path: string,
  { idempotencyKey, status = 200, tier }: { idempotencyKey?: string; status?: number; tier?: string } = {},
): Promise<number> {
  proxy?.take();
  const response = await http.call(path, {
    key: caller.key,
    json: bodyOf(path, tier),
    headers: idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
  });
  expect(response.status).toBe(status);
  const counted = proxy?.take();
  if (!counted) throw new Error('there is a proxy');
  expect(counted.transactions).toBe(0);
  return counted.statementsOutside;
}

it.each([CHECKOUT, PACK])(
  'a first session at %s takes three round trips, and its replay two',
  async (path) => {
    expect(await roundTrips(path, { idempotencyKey: 'one' })).toBe(3);
    expect(await roundTrips(path, { idempotencyKey: 'one' })).toBe(2);
  },
);

it('without a key it takes as many', async () => {
  expect(await roundTrips(CHECKOUT)).toBe(3);
});

it('a session that is open already takes two, and one more for the key', async () => {
  await roundTrips(CHECKOUT);
  expect(await roundTrips(CHECKOUT)).toBe(2);
  expect(await roundTrips(CHECKOUT, { idempotencyKey: 'again' })).toBe(3);
});

it('an account that is no customer yet takes two more', async () => {
  await http.db.orm.em.fork().nativeUpdate(Account, caller.accountId, { stripeCustomerId: null });
  expect(await roundTrips(CHECKOUT, { idempotencyKey: 'first' })).toBe(5);
});

it('a session in the place of another takes three more', async () => {
  await roundTrips(CHECKOUT);
  expect(await roundTrips(CHECKOUT, { tier: 'api_scale' })).toBe(6);
});

it('a refusal takes two', async () => {
  const at = new Date();
  await http.db.orm.em.fork().insert(Subscription, {
    id: uuidv7(at),
    accountId: caller.accountId,
    stripeSubscriptionId: `sub_${caller.accountId}`,
    tier: 'api_builder',
    status: 'active',
    billingPeriod: 'monthly',
    currentPeriodStart: at,
    currentPeriodEnd: at,
    cancelAtPeriodEnd: false,
    version: 1,
    entitled: true,
    updatedAt: at,
  });
  expect(await roundTrips(CHECKOUT, { idempotencyKey: 'refused', status: 409 })).toBe(2);
});

it('the portal takes three, with a key and again', async () => {
  expect(await roundTrips(PORTAL)).toBe(3);
  expect(await roundTrips(PORTAL, { idempotencyKey: 'door' })).toBe(3);
  expect(await roundTrips(PORTAL, { idempotencyKey: 'door' })).toBe(3);
});

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { startPortal } from '../../server/billing/portal.ts';
import { readState } from '../../server/billing/read-state.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { Account } from '../../server/database/entities/account.ts';
import { CheckoutAttempt } from '../../server/database/entities/billing.ts';
import { AuditEntry, StripeEvent } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import type { Alarm } from '../../server/stripe/deps.ts';
import { ProblemError } from '../../shared/errors.ts';
import { processEvents } from '../support/processing.ts';
import type { Call, Fault } from '../support/scripted-stripe.ts';
import {
  addAccount,
  addCustomer,
  type Bench,
  deliver,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';

let bench: Bench;
let deps: BillingDeps;
let alarms: Alarm[];
beforeAll(async () => {
  bench = await openBench();
});
beforeEach(() => {
  alarms = [];
  const defaults = {
    checkoutSuccessUrl: 'https://your.app/configured',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: 'https://your.app/configured',
  };
  const onAlarm = (alarm: Alarm) => void alarms.push(alarm);
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults, onAlarm };
});
afterEach(() => bench.stripe.interfere(() => undefined));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string): MintingCall => ({
  accountId,
  keyId: uuidv7(NOW),
  requestId: 'req_1',
  idempotencyKey: null,
});
const OWN = { success_url: 'https://your.app/mine', cancel_url: 'https://your.app/mine' };

const CALLS = {
  checkout: (accountId: string, own = false) =>
    startCheckout(deps, callOf(accountId), {
      tier: 'api_builder',
      billing_period: 'monthly',
      ...(own && OWN),
    }),
  'trial pack': (accountId: string, own = false) => startTrialPack(deps, callOf(accountId), own ? OWN : {}),
  portal: (accountId: string, own = false) =>
    startPortal(deps, callOf(accountId), own ? { return_url: 'https://your.app/mine' } : {}),
} as const;
type Calling = keyof typeof CALLS;
const CALLINGS: readonly Calling[] = ['checkout', 'trial pack', 'portal'];

type StripesError = { type: string; code?: string; param?: string };
const answer = (status: number, error: StripesError): Fault => ({
  kind: 'answer',
  status,
  headers: { 'retry-after': '0.01' },
  body: JSON.stringify({ error: { message: 'sk_test_scripted said no', ...error } }),
});
const creates = ({ method, path }: Call) => method === 'POST' && path.endsWith('/sessions');

async function thrown(work: Promise<unknown>): Promise<ProblemError> {
  const outcome = await work.catch((error: unknown) => error);
  if (outcome instanceof ProblemError) return outcome;
  throw outcome instanceof Error ? outcome : new Error('it was expected to be refused');
}

const INVALID = 'invalid_request_error';
// Statuses and codes as https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes give them.
const OPERATORS: readonly (readonly [string, number, StripesError])[] = [
  ['an archived price', 400, { type: INVALID, param: 'line_items[0][price]' }],
  ['a deleted price', 400, { type: INVALID, code: 'resource_missing', param: 'line_items[0][price]' }],
  ['an inactive product', 400, { type: INVALID, code: 'product_inactive' }],
  [
    'a parameter it does not know',
    400,
    { type: INVALID, code: 'parameter_unknown', param: 'customer_update' },
  ],
  ['no portal configuration', 400, { type: INVALID }],
  ['a wrong key', 401, { type: INVALID }],
  ['a key that has expired', 401, { type: INVALID, code: 'api_key_expired' }],
  ['a restricted key without the permission', 403, { type: INVALID }],
  ['an account that is not activated', 400, { type: INVALID, code: 'testmode_charges_only' }],
  ['a key of the other mode', 400, { type: INVALID, code: 'livemode_mismatch' }],
  ['a key of idempotency used for something else', 400, { type: 'idempotency_error' }],
  ['a card error', 402, { type: 'card_error', code: 'card_declined' }],
  ['a method it does not offer', 405, { type: INVALID }],
];
const AWAY: readonly (readonly [string, number, StripesError])[] = [
  ['too many calls', 429, { type: 'rate_limit_error', code: 'rate_limit' }],
  ['too many calls, the old way', 400, { type: INVALID, code: 'rate_limit' }],
  ['a lock', 429, { type: INVALID, code: 'lock_timeout' }],
  ['another call under the key', 409, { type: 'idempotency_error', code: 'idempotency_key_in_use' }],
  ['something it depends on', 424, { type: 'api_error' }],
  ['its own fault', 500, { type: 'api_error' }],
  ['an overload', 503, { type: 'api_error' }],
];

describe.each(CALLINGS)('%s', (calling) => {
  it.each(OPERATORS)('tells the operator of %s, and nobody to try again', async (_what, status, error) => {
    const { accountId } = await addCustomer(bench);
    bench.stripe.interfere((call) => (creates(call) ? answer(status, error) : undefined));
    const problem = await thrown(CALLS[calling](accountId));
    expect(problem).toMatchObject({ slug: 'feature-unavailable', status: 503 });
    expect(problem.options.retryAfterSeconds).toBeUndefined();
    expect(JSON.stringify(problem.toProblem('req_1'))).not.toContain('sk_test');
    expect(alarms).toMatchObject([{ kind: 'stripe_refused', details: { status } }]);
    expect(bench.log.errors.at(-1)).toMatchObject({ accountId, kind: 'stripe_refused' });
  });

  it.each(AWAY)(
    'asks the caller to come back after %s',
    { timeout: 30_000 },
    async (_what, status, error) => {
      const { accountId } = await addCustomer(bench);
      bench.stripe.interfere((call) => (creates(call) ? answer(status, error) : undefined));
      const problem = await thrown(CALLS[calling](accountId));
      expect(problem).toMatchObject({ slug: 'internal' });
      expect([502, 503, 504]).toContain(problem.status);
      expect(problem.options.retryAfterSeconds).toBeGreaterThan(0);
      expect(alarms).toEqual([]);
    },
  );

  it('names the address that Stripe refuses, and who has to change it', async () => {
    const field = calling === 'portal' ? 'return_url' : 'success_url';
    const { accountId } = await addCustomer(bench);
    const refusal = answer(400, { type: INVALID, code: 'url_invalid', param: field });
    bench.stripe.interfere((call) => (creates(call) ? refusal : undefined));
    const callers = await thrown(CALLS[calling](accountId, true));
    expect(callers).toMatchObject({
      slug: 'validation-failed',
      status: 400,
      options: { errors: [{ field }] },
    });
    expect(alarms).toEqual([]);
    const operators = await thrown(CALLS[calling](accountId));
    expect(operators).toMatchObject({ slug: 'feature-unavailable', message: expect.stringContaining(field) });
    expect(alarms).toHaveLength(1);
  });

  it('survives a customer that was deleted at Stripe without our hearing of it', async () => {
    const { accountId, customer } = await addCustomer(bench);
    bench.stripe.put({ id: customer, object: 'customer', deleted: true });
    const gone = answer(400, { type: INVALID, code: 'resource_missing', param: 'customer' });
    bench.stripe.interfere((call) => (creates(call) && call.body.includes(customer) ? gone : undefined));
    const outcome = await CALLS[calling](accountId).catch((error: unknown) => error);
    const account = await em().findOneOrFail(Account, accountId);
    expect(account.stripeCustomerGeneration).toBe(1);
    if (calling === 'portal') {
      expect(outcome).toMatchObject({ slug: 'conflict', code: 'no_billing_customer' });
      expect(account.stripeCustomerId).toBeNull();
    } else {
      expect(outcome).toMatchObject({ value: { checkout_session_id: expect.any(String) } });
      expect(account.stripeCustomerId).not.toBe(customer);
      const sessions = bench.stripe
        .all('checkout.session')
        .filter((one) => one['customer'] === account.stripeCustomerId);
      expect(sessions).toHaveLength(1);
      expect(await em().count(CheckoutAttempt, { accountId, state: 'open' })).toBe(1);
    }
    expect(await em().count(AuditEntry, { accountId, action: 'stripe_customer.deleted' })).toBe(1);
    expect(alarms).toEqual([]);
  });

  it('does not let go of a customer that this key has never known', async () => {
    const { accountId } = await addCustomer(bench);
    await em().nativeUpdate(Account, accountId, { stripeCustomerId: `cus_of_another_${calling}` });
    const gone = answer(400, { type: INVALID, code: 'resource_missing', param: 'customer' });
    bench.stripe.interfere((call) => (creates(call) ? gone : undefined));
    expect(await thrown(CALLS[calling](accountId))).toMatchObject({ slug: 'feature-unavailable' });
    expect((await em().findOneOrFail(Account, accountId)).stripeCustomerId).toBe(`cus_of_another_${calling}`);
    expect(alarms).toHaveLength(1);
  });
});

describe('selling', () => {
  it('names the address of the account that Stripe refuses, and works once it is mended', async () => {
    const accountId = await addAccount(bench);
    const refusal = answer(400, { type: INVALID, code: 'email_invalid', param: 'email' });
    bench.stripe.interfere(({ path, body }) =>
      path === '/v1/customers' && body.includes('driftstack.test') ? refusal : undefined,
    );
    const problem = await thrown(CALLS.checkout(accountId));
    expect(problem).toMatchObject({
      slug: 'validation-failed',
      status: 400,
      options: { errors: [{ field: 'email' }] },
    });
    await em().nativeUpdate(Account, accountId, { email: `${accountId}@mended.example` });
    expect(await CALLS.checkout(accountId)).toMatchObject({ replayed: false });
    const keys = bench.stripe.calls
      .filter(({ path, idempotencyKey }) => path === '/v1/customers' && idempotencyKey?.includes(accountId))
      .map(({ idempotencyKey }) => idempotencyKey);
    // Stripe compares what it is sent under a key.
    expect(new Set(keys).size).toBe(2);
  });

  it('asks for the price again when the one it remembers is refused', async () => {
    const { accountId, customer } = await addCustomer(bench);
    await CALLS.checkout((await addCustomer(bench)).accountId);
    const old = 'price_driftstack_api_builder_monthly';
    bench.stripe.change(old, { active: false, lookup_key: null });
    bench.stripe.put({
      id: 'price_moved',
      object: 'price',
      lookup_key: 'driftstack_api_builder_monthly',
      active: true,
      metadata: {},
    });
    const archived = answer(400, { type: INVALID, param: 'line_items[0][price]' });
    bench.stripe.interfere((call) => (creates(call) && call.body.includes(old) ? archived : undefined));
    await CALLS.checkout(accountId);
    const sold = bench.stripe.all('checkout.session').filter((session) => session['customer'] === customer);
    expect(sold).toMatchObject([{ line_items: [{ price: 'price_moved' }] }]);
    expect(alarms).toEqual([]);
    bench.stripe.change('price_moved', { active: false, lookup_key: null });
    bench.stripe.change(old, { active: true, lookup_key: 'driftstack_api_builder_monthly' });
    deps.gateway.forgetPrices();
  });

  it('raises an alarm where there is no price at all', async () => {
    const { accountId } = await addCustomer(bench);
    bench.stripe.change('price_driftstack_trial_pack', { lookup_key: null });
    deps.gateway.forgetPrices();
    expect(await thrown(CALLS['trial pack'](accountId))).toMatchObject({ slug: 'feature-unavailable' });
    expect(alarms).toMatchObject([
      { kind: 'stripe_refused', details: { reason: expect.stringContaining('setup') } },
    ]);
    bench.stripe.change('price_driftstack_trial_pack', { lookup_key: 'driftstack_trial_pack' });
  });
});

describe('the portal', () => {
  it('asks for its configuration again when the one it remembers is refused', async () => {
    const { accountId } = await addCustomer(bench);
    const config = (id: string) =>
      bench.stripe.put({ id, object: 'billing_portal.configuration', metadata: { driftstack: 'portal' } });
    config('bpc_old');
    deps.gateway.forgetPortal();
    await CALLS.portal(accountId);
    bench.stripe.change('bpc_old', { metadata: {} });
    config('bpc_new');
    const inactive = answer(400, { type: INVALID, param: 'configuration' });
    bench.stripe.interfere((call) => (creates(call) && call.body.includes('bpc_old') ? inactive : undefined));
    await CALLS.portal(accountId);
    expect(bench.stripe.all('billing_portal.session')[0]).toMatchObject({ configuration: 'bpc_new' });
    bench.stripe.change('bpc_new', { metadata: {} });
    deps.gateway.forgetPortal();
  });
});

describe('reading', () => {
  const wake = async () => {
    const { accountId, customer } = await addCustomer(bench);
    const object = bench.stripe.put(subscription({ customer }));
    return { accountId, eventId: await deliver(bench, 'customer.subscription.created', object) };
  };
  const stateOf = async (id: string) => await em().findOneOrFail(StripeEvent, { id });
  const lists = ({ path }: Call) => path.startsWith('/v1/subscriptions');

  it('for a success page that Stripe refuses for good is 503 without Retry-After, and an alarm', async () => {
    const { accountId } = await addCustomer(bench);
    const { value } = await startCheckout(deps, callOf(accountId), {
      tier: 'api_scale',
      billing_period: 'annual',
    });
    bench.stripe.interfere((call) => (lists(call) ? answer(403, { type: INVALID }) : undefined));
    const key = { accountId, keyId: uuidv7(NOW), scopes: [], tier: 'free' as const };
    const caller = { ...key, bought: [] };
    const { checkout_session_id } = value;
    const problem = await thrown(readState(deps, caller, { checkout_session_id }));
    expect(problem).toMatchObject({ slug: 'feature-unavailable', status: 503 });
    expect(problem.message).toContain('permission');
    expect(alarms).toMatchObject([{ kind: 'stripe_refused' }]);
  });

  it('of an event that Stripe refuses for good sets the event aside at once, and is an alarm', async () => {
    const { eventId } = await wake();
    const refusal = answer(400, { type: INVALID, code: 'parameter_unknown', param: 'expand' });
    bench.stripe.interfere((call) => (lists(call) ? refusal : undefined));
    expect([...(await processEvents(deps, [eventId]))]).toEqual([]);
    expect(await stateOf(eventId)).toMatchObject({
      state: 'dead',
      error: expect.stringContaining('parameter_unknown'),
    });
    expect(alarms).toMatchObject([{ kind: 'stripe_refused' }]);
  });

  it.each([
    ['does not accept our key', answer(401, { type: INVALID }), 1],
    ['is away', answer(500, { type: 'api_error' }), 0],
  ])('of an event while Stripe %s leaves the event to be tried again', async (_what, fault, told) => {
    const { eventId } = await wake();
    bench.stripe.interfere((call) => (lists(call) ? fault : undefined));
    expect([...(await processEvents(deps, [eventId])).keys()]).toEqual([eventId]);
    expect(await stateOf(eventId)).toMatchObject({ state: 'received' });
    expect(alarms).toHaveLength(told);
    bench.stripe.interfere(() => undefined);
    expect([...(await processEvents(deps, [eventId]))]).toEqual([]);
    expect(await stateOf(eventId)).toMatchObject({ state: 'done' });
  });

  it('of one object that is refused for good leaves the other events alone', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const good = bench.stripe.put(subscription({ customer }));
    const first = await deliver(bench, 'customer.subscription.created', good);
    const second = await deliver(bench, 'invoice.paid', { id: 'in_refused', object: 'invoice', customer });
    const refusal = answer(400, { type: INVALID, code: 'parameter_invalid_empty' });
    bench.stripe.interfere(({ path }) => (path.includes('in_refused') ? refusal : undefined));
    expect([...(await processEvents(deps, [first, second]))]).toEqual([]);
    expect([await stateOf(first), await stateOf(second)]).toMatchObject([
      { state: 'done', accountId },
      { state: 'dead' },
    ]);
    expect(alarms).toMatchObject([{ kind: 'stripe_refused', details: { stripe_event_id: second } }]);
  });

  it('of who owns an event, refused for good, sets it aside as well', async () => {
    const eventId = await deliver(bench, 'charge.dispute.created', { id: 'dp_refused', object: 'dispute' });
    const refusal = answer(400, { type: INVALID, code: 'parameter_invalid_empty' });
    bench.stripe.interfere(({ path }) => (path.includes('dp_refused') ? refusal : undefined));
    expect([...(await processEvents(deps, [eventId]))]).toEqual([]);
    expect(await stateOf(eventId)).toMatchObject({ state: 'dead' });
    expect(alarms).toHaveLength(1);
  });
});

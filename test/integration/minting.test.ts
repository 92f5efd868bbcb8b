import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startCheckout } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { IdempotencyKey } from '../../server/database/entities/account.ts';
import { CheckoutAttempt } from '../../server/database/entities/billing.ts';
import { AuditEntry } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { CheckoutSessionInput } from '../../shared/billing.ts';
import { TIERS } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { processEvents } from '../support/processing.ts';
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
beforeAll(async () => {
  bench = await openBench();
  const redirects = parseAllowlist(['https://your.app']);
  const defaults = {
    checkoutSuccessUrl: null,
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: null,
  };
  deps = { ...bench, redirects, defaults };
});
afterEach(() => {
  bench.stripe.interfere(() => undefined);
  bench.time.now = NOW;
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string, idempotencyKey: string | null = null): MintingCall => ({
  accountId,
  keyId: uuidv7(NOW),
  requestId: 'req_1',
  idempotencyKey,
});
const input = (members: Partial<CheckoutSessionInput> = {}): CheckoutSessionInput => ({
  tier: 'api_builder',
  billing_period: 'monthly',
  success_url: 'https://your.app/success?session_id={CHECKOUT_SESSION_ID}',
  cancel_url: 'https://your.app/cancel',
  ...members,
});
const caught = async (promise: Promise<unknown>): Promise<ProblemError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ProblemError) return error;
  throw error ?? new Error('it was expected to fail');
};
const sessionsOf = (customer: string | undefined) =>
  bench.stripe.all('checkout.session').filter((session) => session['customer'] === customer);
const customersOf = (accountId: string) =>
  bench.stripe
    .all('customer')
    .filter(({ metadata }) => JSON.stringify(metadata ?? {}).includes(formatId('acc', accountId)));
const attemptsOf = (accountId: string) =>
  em().find(CheckoutAttempt, { accountId }, { orderBy: { createdAt: 'asc' } });

describe('startCheckout', () => {
  it('creates customer and session once, and names the account in everything that comes of it', async () => {
    const accountId = await addAccount(bench);
    const { value, replayed } = await startCheckout(deps, callOf(accountId), input());
    expect(replayed).toBe(false);
    const [customer] = customersOf(accountId);
    const [session] = sessionsOf(customer?.id);
    expect(value).toEqual({ checkout_url: session?.['url'], checkout_session_id: session?.id });
    const names = expect.objectContaining({ driftstack_account_id: formatId('acc', accountId) });
    expect(session).toMatchObject({
      mode: 'subscription',
      client_reference_id: formatId('acc', accountId),
      success_url: 'https://your.app/success?session_id={CHECKOUT_SESSION_ID}',
      metadata: names,
      subscription_data: { metadata: names },
      line_items: [{ price: 'price_driftstack_api_builder_monthly' }],
    });
    expect(await attemptsOf(accountId)).toMatchObject([{ state: 'open', stripeSessionId: session?.id }]);
    const audit = await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
    expect(audit.map(({ action, actorType }) => [action, actorType])).toEqual([
      ['stripe_customer.created', 'customer'],
      ['checkout_session.started', 'customer'],
    ]);
  });

  it('gives the open session again for the same thing, and closes it first for another', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const first = await startCheckout(deps, callOf(accountId), input());
    expect(await startCheckout(deps, callOf(accountId), input())).toEqual(first);
    const other = await startCheckout(deps, callOf(accountId), input({ tier: 'api_scale' }));
    expect(other.value.checkout_session_id).not.toBe(first.value.checkout_session_id);
    expect(sessionsOf(customer).map(({ status }) => status)).toEqual(['open', 'expired']);
    const closed = bench.stripe.calls.findIndex(({ path }) =>
      path.includes(`${first.value.checkout_session_id}/expire`),
    );
    const begun = bench.stripe.calls.findLastIndex(
      ({ path, method }) => method === 'POST' && path === '/v1/checkout/sessions',
    );
    expect(closed).toBeLessThan(begun);
  });

  it('does not hand out a session that is about to expire', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const first = await startCheckout(deps, callOf(accountId), input());
    bench.time.now = new Date(NOW.getTime() + 23.9 * 3_600_000);
    const second = await startCheckout(deps, callOf(accountId), input());
    expect(second.value).not.toEqual(first.value);
    expect(sessionsOf(customer).map(({ status }) => status)).toEqual(['open', 'expired']);
  });

  it('sells at the new price once the operator has moved the lookup key, and closes the old session', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const old = 'price_driftstack_solo_manual_monthly';
    const key = 'driftstack_solo_manual_monthly';
    const solo = input({ tier: 'solo_manual' });
    const elsewhere = {
      ...deps,
      gateway: connectStripe({ secretKey: 'sk_test_x', apiBase: bench.stripe.url }),
    };
    await startCheckout(elsewhere, callOf((await addCustomer(bench)).accountId), solo);
    const first = await startCheckout(deps, callOf(accountId), solo);

    bench.stripe.change(old, { lookup_key: null });
    bench.stripe.put({ id: 'price_new', object: 'price', lookup_key: key, active: true, metadata: {} });
    deps.gateway.forgetPrices(); // as after five minutes
    const second = await startCheckout(deps, callOf(accountId), solo);
    expect(second.value).not.toEqual(first.value);
    expect(sessionsOf(customer)).toMatchObject([
      { status: 'open', line_items: [{ price: 'price_new' }] },
      { status: 'expired', line_items: [{ price: old }] },
    ]);
    // Another process still remembers the old price; it asks before it closes what is right.
    expect(await startCheckout(elsewhere, callOf(accountId), solo)).toEqual(second);
    expect(sessionsOf(customer)).toHaveLength(2);

    bench.stripe.change('price_new', { lookup_key: null });
    bench.stripe.change(old, { lookup_key: key });
    deps.gateway.forgetPrices();
  });

  it('goes on with an open session of an earlier version, which had named its end', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const first = await startCheckout(deps, callOf(accountId), input());
    const [attempt] = await attemptsOf(accountId);
    const params = { ...Object(attempt?.params), expires_at: NOW.getTime() / 1000 + 23 * 3_600 };
    await em().nativeUpdate(CheckoutAttempt, { accountId }, { params });
    expect(await startCheckout(deps, callOf(accountId), input())).toEqual(first);
    expect(sessionsOf(customer)).toHaveLength(1);
  });

  it('begins anew when an attempt of an earlier version names an end that Stripe does not allow', async () => {
    const { accountId, customer } = await addCustomer(bench);
    bench.stripe.interfere((call) =>
      call.path === '/v1/checkout/sessions' ? { kind: 'answer', status: 500, body: '{}' } : undefined,
    );
    await caught(startCheckout(deps, callOf(accountId), input()));
    const [attempt] = await attemptsOf(accountId);
    const params = { ...Object(attempt?.params), expires_at: NOW.getTime() / 1000 + 24 * 3_600 };
    await em().nativeUpdate(CheckoutAttempt, { accountId }, { params });
    const message = 'The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.';
    const error = { type: 'invalid_request_error', param: 'expires_at', message };
    bench.stripe.interfere(({ path, body }) =>
      path === '/v1/checkout/sessions' && body.includes('expires_at')
        ? { kind: 'answer', status: 400, body: JSON.stringify({ error }) }
        : undefined,
    );
    await startCheckout(deps, callOf(accountId), input());
    expect(sessionsOf(customer)).toHaveLength(1);
    expect((await attemptsOf(accountId)).map(({ state }) => state).sort()).toEqual(['expired', 'open']);
  });

  it.each(['equal', 'different'])(
    'of 20 %s calls at once, in two processes, leaves one payable session',
    async (how) => {
      const accountId = await addAccount(bench);
      const other = { ...deps, db: await bench.another() };
      bench.stripe.interfere(async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return undefined;
      });
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, n) => {
          const tier = TIERS[how === 'equal' ? 0 : n % TIERS.length] ?? 'api_builder';
          return startCheckout(n % 2 ? deps : other, callOf(accountId), input({ tier }));
        }),
      );
      for (const result of results) {
        if (result.status === 'fulfilled') continue;
        expect(result.reason).toMatchObject({ code: 'concurrent_change', status: 409 });
      }
      const customers = customersOf(accountId);
      expect(customers).toHaveLength(1);
      const open = sessionsOf(customers[0]?.id).filter(({ status }) => status === 'open');
      expect(open).toHaveLength(1);
      const answers = results.flatMap((result) => (result.status === 'fulfilled' ? result.value.value : []));
      expect(answers.map(({ checkout_session_id: id }) => id)).toContain(open[0]?.id);
      if (how === 'equal') expect(new Set(answers.map(({ checkout_session_id: id }) => id)).size).toBe(1);
    },
  );

  it.each(['trialing', 'active', 'past_due', 'unpaid', 'paused'])(
    'refuses an account whose subscription is %s',
    async (status) => {
      const { accountId, customer } = await addCustomer(bench);
      const sub = bench.stripe.put(subscription({ customer, status }));
      await processEvents(bench, [await deliver(bench, 'customer.subscription.created', sub)]);
      const error = await caught(startCheckout(deps, callOf(accountId, 'k-1'), input()));
      expect(error).toMatchObject({
        status: 409,
        code: 'already_subscribed',
        message: expect.stringContaining('portal'),
      });
      expect(sessionsOf(customer)).toEqual([]);
      expect(await em().count(IdempotencyKey, { accountId })).toBe(0);
    },
  );

  it('lets an account come back whose subscription has ended', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer, status: 'canceled' }));
    await processEvents(bench, [await deliver(bench, 'customer.subscription.deleted', sub)]);
    await expect(startCheckout(deps, callOf(accountId), input())).resolves.toMatchObject({ replayed: false });
  });

  it('refuses when the session it wants to close has just been paid for', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const { value } = await startCheckout(deps, callOf(accountId), input());
    const sub = bench.stripe.put(subscription({ customer }));
    bench.stripe.change(value.checkout_session_id, {
      status: 'complete',
      payment_status: 'paid',
      subscription: sub.id,
    });
    const error = await caught(startCheckout(deps, callOf(accountId), input({ tier: 'api_scale' })));
    expect(error).toMatchObject({ code: 'already_subscribed' });
    expect(await attemptsOf(accountId)).toMatchObject([{ state: 'completed' }]);
    expect(sessionsOf(customer)).toHaveLength(1);
  });

  it('refuses an address that is missing or not allowed before anything reaches Stripe', async () => {
    const accountId = await addAccount(bench);
    const before = bench.stripe.calls.length;
    const evil = input({ cancel_url: 'https://evil.example/' });
    expect(await caught(startCheckout(deps, callOf(accountId), evil))).toMatchObject({
      status: 400,
      code: 'redirect_url_not_allowed',
      options: { errors: [{ field: 'cancel_url' }] },
    });
    const { success_url: _, ...bare } = input();
    expect(await caught(startCheckout(deps, callOf(accountId), bare))).toMatchObject({
      status: 400,
      code: 'redirect_url_required',
      options: { errors: [{ field: 'success_url' }] },
    });
    const { cancel_url: __, ...barer } = bare;
    const none = {
      ...deps,
      defaults: { ...deps.defaults, checkoutSuccessUrl: null, checkoutCancelUrl: null },
    };
    expect(await caught(startCheckout(none, callOf(accountId), barer))).toMatchObject({
      options: { errors: [{ field: 'success_url' }, { field: 'cancel_url' }] },
    });
    expect(bench.stripe.calls).toHaveLength(before);
  });

  it('begins with a new customer after Stripe has deleted the old one', async () => {
    const accountId = await addAccount(bench);
    const first = await startCheckout(deps, callOf(accountId), input());
    const [customer] = customersOf(accountId);
    bench.stripe.change(customer?.id ?? '', { deleted: true });
    const gone = { id: customer?.id ?? '', object: 'customer' };
    await processEvents(bench, [await deliver(bench, 'customer.deleted', gone)]);
    const second = await startCheckout(deps, callOf(accountId), input());
    expect(second.value).not.toEqual(first.value);
    const [renewed] = customersOf(accountId);
    expect(renewed?.id).not.toBe(customer?.id);
    expect(sessionsOf(renewed?.id)).toHaveLength(1);
  });

  it('uses the address the operator configured', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const { cancel_url: _, ...rest } = input();
    await startCheckout(deps, callOf(accountId), rest);
    expect(sessionsOf(customer)).toMatchObject([{ cancel_url: 'https://your.app/back' }]);
  });
});

describe('after a failure', () => {
  it.each([
    ['the customer', '/v1/customers'],
    ['the session', '/v1/checkout/sessions'],
  ])('whose effect happened, the next call goes on with %s that exists', async (_, path) => {
    const accountId = await addAccount(bench);
    bench.stripe.interfere((call) =>
      call.method === 'POST' && call.path === path ? { kind: 'lost_answer' } : undefined,
    );
    const error = await caught(startCheckout(deps, callOf(accountId, 'retry-me'), input()));
    expect(error).toMatchObject({ slug: 'internal', status: 503 });
    bench.stripe.interfere(() => undefined);
    const { replayed } = await startCheckout(deps, callOf(accountId, 'retry-me'), input());
    expect(replayed).toBe(false);
    const customers = customersOf(accountId);
    expect(customers).toHaveLength(1);
    expect(sessionsOf(customers[0]?.id)).toHaveLength(1);
  });

  it('with other parameters, the next call finds the lost session and closes it', async () => {
    const { accountId, customer } = await addCustomer(bench);
    bench.stripe.interfere(({ method, path }) =>
      method === 'POST' && path === '/v1/checkout/sessions' ? { kind: 'lost_answer' } : undefined,
    );
    await caught(startCheckout(deps, callOf(accountId), input()));
    bench.stripe.interfere(() => undefined);
    bench.time.now = new Date(NOW.getTime() + 60_000);
    await startCheckout(deps, callOf(accountId), input({ tier: 'team_manual' }));
    expect(sessionsOf(customer).map(({ status }) => status)).toEqual(['open', 'expired']);
    // Byte for byte the same as the first time, or Stripe would have refused the key.
    const created = bench.stripe.calls.filter(
      ({ body }) => body.includes(`customer=${customer}`) && body.includes('api_builder'),
    );
    expect(new Set(created.map(({ body }) => body)).size).toBe(1);
  });

  it('that Stripe calls definite, the next call begins anew', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const error = { type: 'invalid_request_error', message: 'The price is inactive.' };
    bench.stripe.interfere(({ method, path }) =>
      method === 'POST' && path === '/v1/checkout/sessions'
        ? { kind: 'answer', status: 400, body: JSON.stringify({ error }) }
        : undefined,
    );
    const refused = await caught(startCheckout(deps, callOf(accountId), input()));
    expect(refused).toMatchObject({ slug: 'feature-unavailable', status: 503 });
    expect(refused.message).not.toContain('inactive');
    bench.stripe.interfere(() => undefined);
    await startCheckout(deps, callOf(accountId), input());
    expect((await attemptsOf(accountId)).map(({ state }) => state)).toEqual(['expired', 'open']);
    expect(sessionsOf(customer)).toHaveLength(1);
  });
});

describe('an Idempotency-Key', () => {
  it('gives the same answer again, also after the session has changed', async () => {
    const { accountId } = await addCustomer(bench);
    const first = await startCheckout(deps, callOf(accountId, 'key-1'), input());
    bench.stripe.change(first.value.checkout_session_id, { status: 'expired', url: null });
    const before = bench.stripe.calls.length;
    const again = await startCheckout(deps, callOf(accountId, 'key-1'), input());
    expect(again).toEqual({ value: first.value, replayed: true });
    expect(bench.stripe.calls).toHaveLength(before);
  });

  it('is refused for another request, and belongs to its account alone', async () => {
    const one = await addCustomer(bench);
    const two = await addCustomer(bench);
    await startCheckout(deps, callOf(one.accountId, 'key-2'), input());
    const error = await caught(
      startCheckout(deps, callOf(one.accountId, 'key-2'), input({ tier: 'api_scale' })),
    );
    expect(error).toMatchObject({
      status: 409,
      code: 'idempotency_key_reused',
      options: { idempotency_status: 'mismatch' },
    });
    const other = await startCheckout(deps, callOf(two.accountId, 'key-2'), input({ tier: 'api_scale' }));
    expect(other.replayed).toBe(false);
  });

  it('is refused while its call runs, in this process and in another, until its lock has passed', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const other = { ...deps, db: await bench.another() };
    let arrived = false;
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    bench.stripe.interfere(async ({ method, path }) => {
      if (method !== 'POST' || path !== '/v1/checkout/sessions') return undefined;
      arrived = true;
      await held;
      return undefined;
    });
    const running = startCheckout(deps, callOf(accountId, 'key-3'), input());
    await expect.poll(() => arrived).toBe(true);
    const inProgress = { status: 409, options: { idempotency_status: 'in_progress' } };
    expect(await caught(startCheckout(deps, callOf(accountId, 'key-3'), input()))).toMatchObject(inProgress);
    release();
    await running;
    // What a process leaves behind that dies in the middle of a call:
    const left = { state: 'running' as const, status: null, response: null };
    await em().nativeUpdate(IdempotencyKey, { accountId, key: 'key-3' }, left);
    expect(await caught(startCheckout(other, callOf(accountId, 'key-3'), input()))).toMatchObject(inProgress);
    bench.time.now = new Date(NOW.getTime() + 61_000);
    const taken = await startCheckout(other, callOf(accountId, 'key-3'), input());
    expect(taken.replayed).toBe(false);
    expect(sessionsOf(customer)).toHaveLength(1);
  });
});

describe('Stripe', () => {
  it('that sends something else than Stripe is never taken for it', async () => {
    const { accountId } = await addCustomer(bench);
    bench.stripe.interfere(({ method }) =>
      method === 'POST'
        ? { kind: 'answer', status: 502, body: '{"id":"cs_fake","url":"https://evil.example"}' }
        : undefined,
    );
    expect(await caught(startCheckout(deps, callOf(accountId), input()))).toMatchObject({
      slug: 'internal',
      status: 502,
    });
  });

  it('that is too busy for a moment is asked again with the same key', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const keys: (string | null)[] = [];
    const busy = JSON.stringify({ error: { type: 'rate_limit_error', message: 'slow down' } });
    bench.stripe.interfere(({ method, idempotencyKey }) => {
      if (method !== 'POST' || keys.push(idempotencyKey) > 1) return undefined;
      return { kind: 'answer', status: 429, body: busy, headers: { 'retry-after': '0.05' } };
    });
    await startCheckout(deps, callOf(accountId), input());
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    expect(sessionsOf(customer)).toHaveLength(1);
  });

  it('that hangs is given up, however many calls are still to come', async () => {
    const { accountId } = await addCustomer(bench);
    const gateway = connectStripe({ secretKey: 'sk_test_x', apiBase: bench.stripe.url, timeoutMs: 100 });
    bench.stripe.interfere(() => ({ kind: 'hang' }));
    const before = performance.now();
    const error = await caught(startCheckout({ ...deps, gateway }, callOf(accountId), input()));
    expect(error).toMatchObject({ slug: 'internal', status: 504, options: { retryAfterSeconds: 5 } });
    // Far less than the 24 s that a person waits at most.
    expect(performance.now() - before).toBeLessThan(12_000);
    const budget = gateway.within(150);
    await caught(budget.readInvoice('in_1'));
    const calls = bench.stripe.calls.length;
    expect(await caught(budget.readInvoice('in_2'))).toMatchObject({ status: 504 });
    expect(bench.stripe.calls).toHaveLength(calls);
  });

  it('that does not accept our key makes the feature unavailable, and the key is never shown', async () => {
    const { accountId } = await addCustomer(bench);
    const message = 'Invalid API Key provided: sk_test_scripted';
    const body = JSON.stringify({ error: { type: 'invalid_request_error', message } });
    bench.stripe.interfere(({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 401, body } : undefined,
    );
    const error = await caught(startCheckout(deps, callOf(accountId), input()));
    expect(error).toMatchObject({ slug: 'feature-unavailable', status: 503 });
    expect(error.message).toContain('STRIPE_SECRET_KEY');
    expect(JSON.stringify(error.toProblem('req_1'))).not.toContain('sk_test');
  });

  it('without the price names what the operator has to do', async () => {
    const { accountId } = await addCustomer(bench);
    bench.stripe.interfere(({ path }) =>
      path.startsWith('/v1/prices')
        ? { kind: 'answer', status: 200, body: '{"object":"list","data":[],"has_more":false}' }
        : undefined,
    );
    const fresh = input({ tier: 'agency_manual', billing_period: 'annual' });
    expect(await caught(startCheckout(deps, callOf(accountId), fresh))).toMatchObject({
      slug: 'feature-unavailable',
      status: 503,
      message: expect.stringContaining('driftstack_agency_manual_annual'),
    });
  });
});

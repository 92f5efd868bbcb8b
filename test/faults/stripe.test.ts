import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, type ExpectStatic as Expect, it } from 'vitest';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import type { Call, Fault } from '../support/scripted-stripe.ts';
import { reached } from '../support/states.ts';
import { addAccount, type Bench, openBench } from '../support/stripe.ts';
import { callOf } from './support/deployment.ts';

const error = (type: string) => JSON.stringify({ error: { type, message: 'ordered by a test' } });
const answer = (status: number, body: string, headers: Record<string, string> = {}): Fault => ({
  kind: 'answer',
  status,
  body,
  headers,
});

const FAULTS = [
  ['answers 500', answer(500, error('api_error'))],
  ['answers 503 by its proxy', answer(503, '<html>Service unavailable</html>')],
  ['answers 429 with Retry-After', answer(429, error('rate_limit_error'), { 'retry-after': '0.1' })],
  ['answers 429 without Retry-After', answer(429, error('rate_limit_error'))],
  [
    'answers 409 for a key in use',
    answer(409, JSON.stringify({ error: { type: 'idempotency_error', code: 'idempotency_key_in_use' } })),
  ],
  ['never answers and does nothing', { kind: 'hang' }],
  ['never answers and has done it', { kind: 'hang_after' }],
  ['breaks the connection and has done it', { kind: 'lost_answer' }],
  ['answers 200 with garbage', answer(200, '<html>{"id": ')],
  ['answers 200 with JSON of another', answer(200, '{"id":"cs_fake","url":"https://evil.example"}')],
] as const satisfies readonly (readonly [string, Fault])[];
const CREATED = [
  ['customer', '/v1/customers'],
  ['session', '/v1/checkout/sessions'],
] as const;
const SOLD = ['subscription', 'trial_pack'] as const;
/** Once, and for longer than anybody tries. */
const TIMES = [1, 1_000] as const;

const AT_ONCE = 10;
const CASES = FAULTS.flatMap(([what, fault]) =>
  CREATED.flatMap(([creates, path]) =>
    SOLD.flatMap((sells) => TIMES.map((times) => ({ what, fault, creates, path, sells, times }))),
  ),
);

let bench: Bench;
let deps: BillingDeps;
beforeAll(async () => {
  bench = await openBench();
  bench.stripe.interfere((call) => {
    const owner = /acc_[0-9a-f-]{36}/.exec(decodeURIComponent(call.body))?.[0];
    return owner === undefined ? undefined : fates.get(owner)?.(call);
  });
  deps = {
    ...bench,
    gateway: connectStripe({ secretKey: 'sk_test_impatient', apiBase: bench.stripe.url, timeoutMs: 300 }),
    redirects: parseAllowlist(['https://your.app']),
    defaults: {
      checkoutSuccessUrl: 'https://your.app/ok',
      checkoutCancelUrl: 'https://your.app/back',
      portalReturnUrl: null,
    },
  };
});
afterAll(() => bench?.close());

const mint = (sells: (typeof SOLD)[number], accountId: string, key: string, using = deps) => {
  const call = { ...callOf(accountId), idempotencyKey: key };
  return sells === 'trial_pack'
    ? startTrialPack(using, call, {})
    : startCheckout(using, call, { tier: 'api_builder', billing_period: 'monthly' });
};

/** What Stripe holds for an account. */
function heldFor(accountId: string) {
  const owner = formatId('acc', accountId);
  const customers = bench.stripe
    .all('customer')
    .filter(({ metadata }) => JSON.stringify(metadata ?? {}).includes(owner));
  const sessions = bench.stripe
    .all('checkout.session')
    .filter(({ client_reference_id: account }) => account === owner);
  return { customers, sessions };
}

/** What happens to the calls about each account, by its id as it is written at Stripe. */
const fates = new Map<string, (call: Call) => Promise<Fault | undefined> | Fault | undefined>();

async function play({ what, fault, creates, path, sells, times }: (typeof CASES)[number], expect: Expect) {
  const where = `${sells}: Stripe ${what} for the ${creates}, ${times} times`;
  const accountId = await addAccount(bench);
  const keys = new Map<string, Set<string | null>>();
  let left: number = times;
  fates.set(formatId('acc', accountId), (call) => {
    keys.set(call.path, (keys.get(call.path) ?? new Set()).add(call.idempotencyKey));
    return call.path === path && left-- > 0 ? fault : undefined;
  });
  const began = performance.now();
  const first = await mint(sells, accountId, 'a-key').catch((thrown: unknown) => thrown);
  reached(`Stripe ${what}`, left < times);
  const isRefused = first instanceof Error;
  reached('Stripe fails for longer than anybody tries, and the caller calls again', times > 1 && isRefused);
  reached('Stripe fails once, and the caller does not notice', times === 1 && !isRefused);
  expect(performance.now() - began, where).toBeLessThan(25_000);
  if (first instanceof Error) {
    expect(first, where).toBeInstanceOf(ProblemError);
    if (!(first instanceof ProblemError)) throw first;
    expect([502, 503, 504], where).toContain(first.status);
    expect(first.toProblem('req_1'), where).toMatchObject({ retry_after_seconds: expect.any(Number) });
  }
  left = 0;
  const { value } = await mint(sells, accountId, 'a-key');
  const { customers, sessions } = heldFor(accountId);
  expect(customers, where).toHaveLength(1);
  expect(
    sessions.map(({ id }) => id),
    where,
  ).toEqual([value.checkout_session_id]);
  expect([...keys.keys()].sort(), where).toEqual(CREATED.map(([, asked]) => asked).sort());
  for (const [asked, used] of keys) {
    expect(used.size, `${where}: keys for ${asked}`).toBe(1);
    expect([...used], where).not.toContain(null);
  }
}

describe('a Stripe that', () => {
  it('fails in any way is asked with one key, makes one thing of each, and the caller hears a problem in time', async ({
    expect,
  }) => {
    for (let first = 0; first < CASES.length; first += AT_ONCE) {
      await Promise.all(CASES.slice(first, first + AT_ONCE).map((one) => play(one, expect)));
    }
  }, 240_000);

  it('is slow is waited for', async ({ expect }) => {
    const accountId = await addAccount(bench);
    fates.set(formatId('acc', accountId), async () => {
      await delay(100);
      return undefined;
    });
    const { value } = await mint('subscription', accountId, 'slow');
    expect(heldFor(accountId).sessions.map(({ id }) => id)).toEqual([value.checkout_session_id]);
  });

  it('hangs with the timeouts of a deployment lets the caller go within 25 seconds', async ({ expect }) => {
    const accountId = await addAccount(bench);
    fates.set(formatId('acc', accountId), () => ({ kind: 'hang_after' }));
    const gateway = connectStripe({ secretKey: 'sk_test_patient', apiBase: bench.stripe.url });
    const began = performance.now();
    const refused = await mint('subscription', accountId, 'hangs', { ...deps, gateway }).catch(
      (thrown: unknown) => thrown,
    );
    const tookMs = performance.now() - began;
    expect(refused).toMatchObject({ status: 504, options: { retryAfterSeconds: 5 } });
    expect(tookMs).toBeLessThan(25_000);
    console.log(`a Stripe that hangs: the caller was answered after ${Math.round(tookMs)} ms`);
  }, 40_000);
});

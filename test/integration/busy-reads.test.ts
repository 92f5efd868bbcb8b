import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BillingDeps } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { CheckoutAttempt } from '../../server/database/entities/billing.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { expectNothingHeld } from '../support/held.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { processEvents } from '../support/processing.ts';
import { type ScriptedStripe, startScriptedStripe } from '../support/scripted-stripe.ts';
import { untilTrue } from '../support/service.ts';
import { deliver, quietLog, subscription } from '../support/stripe.ts';

/** As many as a process has, so that what is asserted of shares is what holds in operation. */
const POOL = 20;

let stripe: ScriptedStripe;
let http: TestHttp;
let deps: BillingDeps;
let release: () => void;
let hanging: number;
beforeEach(async () => {
  stripe = await startScriptedStripe();
  // As slow as an account may be at all: nothing gives up before the test lets go.
  const gateway = connectStripe({ secretKey: 'sk_test_slow', apiBase: stripe.url, timeoutMs: 60_000 });
  const clock = { now: () => new Date() };
  const redirects = parseAllowlist([]);
  const defaults = { checkoutSuccessUrl: null, checkoutCancelUrl: null, portalReturnUrl: null };
  http = await startHttp({
    poolMax: POOL,
    clock,
    deps: { gateway },
  });
  deps = { db: http.db, gateway, clock, redirects, defaults, log: quietLog() };
  hanging = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  release = resolve;
  stripe.interfere(async () => {
    hanging += 1;
    await promise;
    return undefined;
  });
});
afterEach(async () => {
  release();
  await http.close();
  await stripe.close();
});

/** A customer who is on the way back from Checkout, with so many sessions of theirs. */
async function buyer(sessions = 1) {
  const { accountId, key } = await http.openAccount();
  const customer = stripe.newId('cus');
  stripe.put({ id: customer, object: 'customer', metadata: {} });
  const em = http.db.orm.em.fork();
  await em.nativeUpdate(Account, accountId, { stripeCustomerId: customer });
  const ids: string[] = [];
  for (let n = 0; n < sessions; n += 1) {
    const id = stripe.newId('cs_test');
    stripe.put({ id, object: 'checkout.session', customer, status: 'open', payment_status: 'unpaid' });
    const now = new Date();
    await em.insert(CheckoutAttempt, {
      id: uuidv7(now),
      accountId,
      kind: 'subscription',
      state: n === 0 ? 'open' : 'expired',
      params: {},
      paramsHash: Buffer.alloc(32),
      stripeSessionId: id,
      expiresAt: now,
      createdAt: now,
      updatedAt: now,
    });
    ids.push(id);
  }
  return { accountId, customer, key, ids };
}
type Buyer = Awaited<ReturnType<typeof buyer>>;

const read = ({ key, ids }: Buyer, n = 0) => http.call(`/v1/billing?checkout_session_id=${ids[n]}`, { key });
const many = (count: number, make: (n: number) => Promise<Response>) =>
  Array.from({ length: count }, (_, n) => make(n));
/** Nobody holds a transaction, and so no lock, while Stripe is silent: not for several signs of life. */
const idle = () => expectNothingHeld(http.db, 2_000);
/** Nothing moves any more: every call has come as far as it gets while Stripe is silent. */
async function settled(calls: number): Promise<void> {
  await untilTrue(() => hanging >= calls);
  const stranger = await http.openAccount();
  for (let n = 0; n < 5; n += 1) {
    const answer = await http.call('/v1/billing', { key: stranger.key });
    expect(answer.status).toBe(200);
  }
}

describe('while Stripe does not answer, callers back from Checkout', () => {
  it('of one account and session share one look, and hold no connection', async () => {
    const one = await buyer();
    const answers = many(24, () => read(one));
    await settled(1);
    await idle();
    expect(hanging).toBe(1);
    release();
    const got = await Promise.all(answers);
    expect(got.map(({ status }) => status)).toEqual(Array(24).fill(200));
    // The first look, and one that began after all the others had asked.
    const looks = stripe.calls.filter(({ path }) => path.startsWith('/v1/subscriptions?'));
    expect(looks).toHaveLength(2);
  });

  it('of one account with a session each come one after the other, and hold up nothing else of it', async () => {
    const one = await buyer(10);
    const answers = many(10, (n) => read(one, n));
    await settled(1);
    const hooks = many(10, (n) =>
      http.call('/v1/webhooks', {
        key: one.key,
        json: { url: `https://hooks.example.com/${n}`, events: ['subscription.changed'] },
      }),
    );
    expect((await Promise.all(hooks)).map(({ status }) => status)).toEqual(Array(10).fill(201));
    await idle();
    expect(hanging).toBe(1);
    release();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(10).fill(200));
  });

  it('of many accounts are looked at side by side, beside the events of many more, and nobody holds a connection', async () => {
    const buyers = await Promise.all(Array.from({ length: 30 }, () => buyer()));
    // All that takes time comes first, because Stripe may be silent for 20 s at most.
    const events: string[] = [];
    for (let n = 0; n < 2 * POOL; n += 1) {
      const { customer } = await buyer();
      const sub = stripe.put(subscription({ customer }));
      events.push(await deliver(deps, 'customer.subscription.created', sub));
    }
    const answers = buyers.map((one) => read(one));
    await settled(30);
    const processed = processEvents(deps, events);
    await settled(30 + 2 * POOL);
    await idle();
    release();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(30).fill(200));
    expect((await processed).size).toBe(0);
  });

  it('take nothing from a stranger, with fifty of them by one key and Stripe at two seconds', async () => {
    const [one, stranger] = [await buyer(), await http.openAccount()];
    stripe.interfere(async () => {
      await delay(2_000);
      return undefined;
    });
    const answers = many(50, () => read(one));
    const tookMs: number[] = [];
    let isOver = false;
    const all = Promise.all(answers).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const beganMs = performance.now();
      const answer = await http.call('/v1/billing', { key: stranger.key });
      tookMs.push(performance.now() - beganMs);
      expect(answer.status).toBe(200);
      // Slowly enough for the limit that a stranger has as well.
      await delay(250);
    }
    const statuses = (await all).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(24);
    expect(statuses.filter((status) => status === 429)).toHaveLength(26);
    tookMs.sort((a, b) => a - b);
    expect(tookMs.length).toBeGreaterThan(4);
    // Far from what Stripe takes, for most of them: how quick they are is measured by the bench, on a quiet machine.
    expect(tookMs[Math.floor(tookMs.length / 2)]).toBeLessThan(1_000);
  }, 60_000);

  it('beyond what may wait are told so at once: the account itself first, then everybody', async () => {
    const one = await buyer();
    // One call more than may wait: whichever comes last is the only one that is answered.
    const mine = many(25, () => read(one));
    const refused = await Promise.race(mine);
    expect(refused.status).toBe(429);
    await settled(1);
    expect(refused.headers.get('retry-after')).toBe('3');
    expect(await refused.json()).toMatchObject({ code: 'rate_limited', retry_after_seconds: 3 });
    const others = await Promise.all(Array.from({ length: 9 }, () => buyer()));
    const theirs = others.map((other) => read(other));
    const turnedAway = await Promise.race(theirs);
    expect(turnedAway.status).toBe(503);
    await settled(1 + 8);
    expect(await turnedAway.json()).toMatchObject({ detail: expect.stringContaining('Too many calls wait') });
    expect(turnedAway.headers.get('retry-after')).toBe('3');
    release();
    const answers = await Promise.all([...mine, ...theirs]);
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array(24 + 8).fill(200), 429, 503]);
    for (const other of others) expect((await read(other)).status).toBe(200);
  });
});

it('whoever waits for a lock of another process lets go of the connection before others give up on one', async () => {
  const { accountId } = await http.openAccount();
  const other = await connectDatabase({ url: http.db.url, poolMax: 1, applicationName: 'another' });
  const held = await other.pool.connect();
  try {
    await held.query('begin');
    await held.query('select 1 from account where id = $1 for no key update', [accountId]);
    const error = await http.db
      .transactionOn(accountId, (tx) =>
        tx.execute('select 1 from account where id = ? for no key update', [accountId]),
      )
      .then(
        () => null,
        (thrown: unknown) => thrown,
      );
    expect(error).toMatchObject({ code: '55P03' });
    const { rows } = await http.db.pool.query<{ lock: string }>(
      "select current_setting('lock_timeout') as lock",
    );
    expect(rows[0]?.lock).toBe('4s');
  } finally {
    await held.query('rollback');
    held.release();
    await other.close();
  }
}, 30_000);

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { issueKey, revokeKey } from '../../server/billing/keys.ts';
import { startPortal } from '../../server/billing/portal.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { expireTrialPack } from '../../server/credit/expire.ts';
import { reportUse } from '../../server/credit/report-use.ts';
import { releaseReservation, reserve, settleReservation } from '../../server/credit/reserve.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { replayEvent } from '../../server/stripe/inbox/replay.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { openPack } from '../support/credit.ts';
import { type Locked, recordLocks, tablesLockedBy } from '../support/lock-recorder.ts';
import { processEvents, startProcessing } from '../support/processing.ts';
import { untilTrue } from '../support/service.ts';
import {
  addAccount,
  addCustomer,
  type Bench,
  deliver,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';
import { webhookCalls } from '../support/webhooks.ts';

let bench: Bench;
let deps: BillingDeps;
beforeEach(async () => {
  bench = await openBench();
  const defaults = {
    checkoutSuccessUrl: 'https://your.app/success',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: null,
  };
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults };
});
afterEach(() => bench.close());

const callOf = (accountId: string, idempotencyKey: string | null = null): MintingCall => ({
  accountId,
  keyId: uuidv7(NOW),
  requestId: 'req_1',
  idempotencyKey,
});
const plan = { tier: 'api_builder', billing_period: 'monthly' } as const;
const waitingForLocks = async (): Promise<number> => {
  const { rows } = await bench.db.pool.query<{ count: number }>(
    "select count(*)::int as count from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
  );
  return rows[0]?.count ?? 0;
};

/** Whether these transactions, whoever runs them, could wait for one another in a circle. */
function faultsOf(transactions: readonly Locked[]): string[] {
  const late = transactions.filter((tables) => tables.indexOf('account') > 0);
  // Behind the account's lock one's own rows have no other competitors than those who do without that lock.
  const alone = transactions.filter((tables) => !tables.includes('account') && tables.length > 1);
  const turned = alone.flatMap((tables) =>
    transactions
      .filter((others) =>
        tables.some((a, at) =>
          tables
            .slice(at + 1)
            .some((b) => others.includes(a) && others.includes(b) && others.indexOf(b) < others.indexOf(a)),
        ),
      )
      .map((others) => `${tables.join(' → ')} against ${others.join(' → ')}`),
  );
  return [...late.map((tables) => `the account late: ${tables.join(' → ')}`), ...turned];
}

describe('the order of locks', () => {
  it('is one for everything that this service does', async () => {
    const { transactions } = recordLocks(bench.db);
    const { db, clock, stripe } = bench;

    // Minting: new, the same again, another one in its place, then bought, and a portal.
    const accountId = await addAccount(bench);
    await startCheckout(deps, callOf(accountId, 'k-1'), plan);
    await startCheckout(deps, callOf(accountId, 'k-2'), plan);
    const other = await startCheckout(deps, callOf(accountId), { ...plan, tier: 'api_scale' });
    await startTrialPack(deps, callOf(accountId, 'k-3'), {});
    await startPortal(deps, callOf(accountId, 'k-4'), {});
    const customer = String(stripe.all('customer')[0]?.id);
    const sub = stripe.put(subscription({ customer }));
    stripe.change(other.value.checkout_session_id, { status: 'complete', subscription: sub.id });
    await processEvents(bench, [await deliver(bench, 'customer.subscription.created', sub)]);
    await reconcile(bench, accountId, { by: 'reconciler' });

    // A customer that is deleted while a session of theirs is open.
    const gone = await addCustomer(bench);
    await startCheckout(deps, callOf(gone.accountId), plan);
    const deleted = stripe.change(gone.customer, { deleted: true });
    const event = await deliver(bench, 'customer.deleted', deleted);
    await processEvents(bench, [event]);
    await db.orm.em.fork().nativeUpdate(StripeEvent, { id: event }, { state: 'dead' });
    await db.transaction((tx) => replayEvent(tx, event, NOW));

    // Keys.
    const issued = await db.transaction((tx) =>
      issueKey(tx, { accountId, name: 'k', scopes: ['read:billing'], now: NOW }),
    );
    await db.transaction((tx) => revokeKey(tx, { keyId: issued.id, now: NOW }));

    // Endpoints, with something on its way to them.
    const hooks = webhookCalls({
      db,
      commit: db.transactionOn,
      clock,
      secretKey: Buffer.alloc(32, 7),
      destinations: { resolve: async () => ['93.184.215.14'], ports: [], loopback: false },
    });
    const caller = { accountId, keyId: uuidv7(NOW), requestId: 'req_2' };
    const url = 'https://hooks.example.com/';
    const { id } = await hooks.create(caller, { url, events: ['subscription.changed'], description: null });
    await hooks.test(caller, { id });
    await hooks.update(caller, { id, active: false });
    stripe.change(sub.id, { status: 'past_due' });
    await processEvents(bench, [await deliver(bench, 'customer.subscription.updated', sub)]);
    await hooks.update(caller, { id, active: true });
    await hooks.rotateSecret(caller, { id });
    await hooks.replay(caller, { id, after: 0 });
    const [first] = (await hooks.listDeliveries(accountId, { id, limit: 10 })).data;
    if (first) await hooks.replayDelivery(caller, { id: first.id });
    await hooks.delete(caller, { id });

    // Credit.
    const spender = await openPack(db);
    const spending = { db, clock: { now: () => new Date() } };
    const usedAt = new Date();
    const use = { accountId: spender, sessionId: 's1', usedAt };
    await reportUse(spending, { ...use, reportId: 'r-1', seconds: 10 });
    const wish = { accountId: spender, sessionId: 's1', seconds: 100, holdSeconds: 60 };
    await reserve(spending, { ...wish, reservationId: 'h-1' });
    await settleReservation(spending, { accountId: spender, reservationId: 'h-1', seconds: 10, usedAt });
    await reserve(spending, { ...wish, reservationId: 'h-2' });
    await releaseReservation(spending, { accountId: spender, reservationId: 'h-2' });
    await reportUse(spending, { ...use, reportId: 'r-2', seconds: 59_000 });
    await reportUse(spending, { ...use, reportId: 'r-3', seconds: 59_000 });
    await expireTrialPack(spending, spender);

    expect(faultsOf(transactions)).toEqual([]);
    // It has seen what it should: were the statements not understood, it would find no fault in them.
    const pairs = transactions.map((tables) => tables.join(' '));
    for (const tables of [
      /^account .*checkout_attempt/,
      /^account .*idempotency_key/,
      /^account .*api_key/,
      /^account .*webhook_endpoint.* webhook_delivery|^account .*webhook_delivery/,
      /^account .*trial_pack/,
      /^account .*stripe_event account_sync/,
      /^trial_pack credit_reservation|^trial_pack$/,
    ])
      expect(
        pairs.some((pair) => tables.test(pair)),
        String(tables),
      ).toBe(true);
  });

  it('is told by the statements', () => {
    expect(tablesLockedBy('select * from account where id = ? for no key update')).toEqual(['account']);
    expect(tablesLockedBy('select * from account where id = ?')).toEqual([]);
    expect(tablesLockedBy('update "checkout_attempt" set "state" = $1')).toEqual(['checkout_attempt']);
    expect(tablesLockedBy('with a as (select 1 from email for update skip locked) select 1')).toEqual([]);
    expect(faultsOf([['checkout_attempt', 'account']])).toHaveLength(1);
    expect(
      faultsOf([
        ['trial_pack', 'email'],
        ['account', 'email', 'trial_pack'],
      ]),
    ).toHaveLength(1);
    expect(
      faultsOf([
        ['account', 'email', 'trial_pack'],
        ['account', 'trial_pack', 'email'],
      ]),
    ).toEqual([]);
  });
});

describe('two that want the same rows', () => {
  it('minting’s last step waits for a customer to be let go of, and sells to a new one', async () => {
    const other = { ...bench, db: await bench.another() };
    const { accountId, customer } = await addCustomer(bench);
    const { promise: created, resolve: create } = Promise.withResolvers<void>();
    let minting = 0;
    bench.stripe.interfere(async ({ method, path }) => {
      if (method === 'POST' && path.startsWith('/v1/checkout/sessions') && minting++ === 0) await created;
      return undefined;
    });
    // In this process a session is made; in another one the customer's end is written, with the account locked.
    const sold = startCheckout(deps, callOf(accountId), plan);
    await untilTrue(() => minting === 1);
    const event = await deliver(bench, 'customer.deleted', bench.stripe.change(customer, { deleted: true }));
    const held = await (await bench.another()).pool.connect();
    await held.query('begin');
    await held.query('select 1 from stripe_event where id = $1 for no key update', [event]);
    const passed = processEvents(other, [event]);
    await untilTrue(async () => (await waitingForLocks()) === 1);
    create();
    await untilTrue(async () => (await waitingForLocks()) === 2);
    await held.query('rollback');
    held.release();
    expect((await passed).size).toBe(0);
    const { value } = await sold;
    const [session] = bench.stripe
      .all('checkout.session')
      .filter(({ id }) => id === value.checkout_session_id);
    expect(session?.['customer']).not.toBe(customer);
  });

  it('events whose account is to be found out are taken past what another process has locked', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const intent = bench.stripe.put({ id: bench.stripe.newId('pi'), object: 'payment_intent', customer });
    const dispute = bench.stripe.put({ id: 'dp_1', object: 'dispute', payment_intent: intent.id });
    const ids = [
      await deliver(bench, 'charge.dispute.created', dispute),
      await deliver(bench, 'charge.dispute.closed', dispute),
    ];
    const held = await (await bench.another()).pool.connect();
    await held.query('begin');
    await held.query('select 1 from stripe_event where id = $1 for no key update', [ids[0]]);
    const worker = startProcessing(bench);
    const done = () => bench.db.orm.em.fork().find(StripeEvent, { accountId, state: 'done' });
    try {
      await untilTrue(async () => (await done()).length > 0);
      expect((await done()).map(({ id }) => id)).toEqual([ids[1]]);
      await held.query('rollback');
      await untilTrue(async () => (await done()).length === 2);
    } finally {
      await held.query('rollback');
      held.release();
      await worker.close();
    }
  });

  it('a price that both see for the first time is waited for by neither while Stripe is read', async () => {
    const other = { ...bench, db: await bench.another() };
    const buyers = [await addCustomer(bench), await addCustomer(bench)];
    const [slow, fast] = await Promise.all(
      buyers.map(async ({ customer }) => {
        const sub = bench.stripe.put(subscription({ customer }));
        return { customer, sub, event: await deliver(bench, 'customer.subscription.created', sub) };
      }),
    );
    if (!slow || !fast) throw new Error('two were made');
    const invoice = bench.stripe.put({
      id: 'in_slow',
      object: 'invoice',
      customer: slow.customer,
      status: 'open',
    });
    const late = await deliver(bench, 'invoice.payment_failed', invoice);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let hanging = 0;
    bench.stripe.interfere(async ({ path }) => {
      if (!path.startsWith('/v1/invoices/in_slow')) return undefined;
      hanging += 1;
      await released;
      return undefined;
    });
    let isOver = false;
    const apiBase = bench.stripe.url;
    const gateway = connectStripe({ secretKey: 'sk_test_patient', apiBase, timeoutMs: 60_000 });
    const slowly = processEvents({ ...bench, gateway }, [slow.event, late]).finally(() => {
      isOver = true;
    });
    await untilTrue(() => hanging === 1);
    expect((await processEvents(other, [fast.event])).size).toBe(0);
    expect(isOver).toBe(false);
    release();
    await slowly;
  });
});

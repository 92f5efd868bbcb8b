import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { Alarm } from '../../server/stripe/deps.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { formatId } from '../../shared/ids.ts';
import { expectNothingHeld } from '../support/held.ts';
import { processEvents } from '../support/processing.ts';
import { PACK_LINES, type Thing } from '../support/scripted-stripe.ts';
import {
  addCustomer,
  type Bench,
  deliver,
  linesFor,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterEach(() => bench.stripe.interfere(() => undefined));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const count = async (accountId: string, wanted: string) =>
  (await em().count(AuditEntry, { accountId, action: wanted })) +
  (await em().count(Email, { accountId, template: wanted }));
const refundsOf = (paymentIntent: string) =>
  bench.stripe.all('refund').filter((refund) => refund['payment_intent'] === paymentIntent);
const statusOf = (id: string) => bench.stripe.all('subscription').find((one) => one.id === id)?.['status'];
const unix = NOW.getTime() / 1000;

/** A payment that Stripe has taken. */
function payment(customer: string, amount: number): string {
  const id = bench.stripe.newId('pi');
  const charge = {
    id: bench.stripe.newId('ch'),
    object: 'charge',
    created: unix,
    amount,
    amount_refunded: 0,
  };
  bench.stripe.put({ id, object: 'payment_intent', status: 'succeeded', customer, latest_charge: charge });
  return id;
}

function invoiceOf(customer: string, subscriptionId: string, status: 'open' | 'paid', amount = 9900): Thing {
  return bench.stripe.put({
    id: bench.stripe.newId('in'),
    object: 'invoice',
    customer,
    status,
    number: 'D-1',
    amount_paid: status === 'paid' ? amount : 0,
    amount_remaining: status === 'paid' ? 0 : amount,
    attempt_count: 1,
    currency: 'usd',
    created: unix,
    parent: { type: 'subscription_details', subscription_details: { subscription: subscriptionId } },
    status_transitions: { paid_at: unix, finalized_at: null },
    lines: linesFor(subscriptionId, { amount }),
  });
}

const settle = (invoice: Thing, paymentIntent: string) =>
  bench.stripe.put({
    id: bench.stripe.newId('inpay'),
    object: 'invoice_payment',
    invoice: invoice.id,
    payment: { type: 'payment_intent', payment_intent: paymentIntent },
  });

/** An account with a subscription, whose customer pays for a second one on a page left open or that staff adds. */
async function subscribedTwice({ paid, amount = 9900 }: { paid: boolean; amount?: number }) {
  const { accountId, customer } = await addCustomer(bench);
  const first = bench.stripe.put(subscription({ customer, lookup_key: 'driftstack_api_scale_monthly' }));
  await reconcile(bench, accountId, { by: 'reconciler' });
  const second = subscription({ customer });
  const invoice = invoiceOf(customer, second.id, paid ? 'paid' : 'open', amount);
  const paymentIntent = payment(customer, amount);
  if (paid) settle(invoice, paymentIntent);
  bench.stripe.put({ ...second, latest_invoice: invoice.id });
  return { accountId, customer, first, second, invoice, paymentIntent };
}

/** An account with its trial pack, whose customer has paid for a second one. */
async function packedTwice() {
  const { accountId, customer } = await addCustomer(bench);
  const account = formatId('acc', accountId);
  const sessions = [0, 1].map(() => {
    const paymentIntent = payment(customer, 299);
    return bench.stripe.put({
      id: bench.stripe.newId('cs_test'),
      object: 'checkout.session',
      mode: 'payment',
      status: 'complete',
      payment_status: 'paid',
      customer,
      client_reference_id: account,
      payment_intent: paymentIntent,
      amount_total: 299,
      currency: 'usd',
      created: unix,
      line_items: PACK_LINES,
      metadata: {},
    });
  });
  const [first, second] = sessions;
  if (!first || !second) throw new Error('there are two');
  await synchronise(bench, accountId, { kind: 'checkout_session', sessionId: first.id });
  return { accountId, first, second, paymentIntent: String(second['payment_intent']) };
}

/** The process ends at the nth call to Stripe: it takes effect, and nothing after it happens. */
function crashAt(n: number): { reached: () => boolean } {
  let calls = 0;
  bench.stripe.interfere(() => {
    calls += 1;
    return calls >= n ? { kind: 'lost_answer' } : undefined;
  });
  return { reached: () => calls >= n };
}

describe('a second live subscription', () => {
  it('is given back and ended once, wherever on its way we crash', { timeout: 120_000 }, async () => {
    let crashes = 0;
    for (let n = 1; ; n++) {
      const { accountId, first, second, paymentIntent } = await subscribedTwice({ paid: true });
      const event = await deliver(bench, 'customer.subscription.created', second);
      const crash = crashAt(n);
      await processEvents(bench, [event]);
      bench.stripe.interfere(() => undefined);
      if (crash.reached()) crashes += 1;
      expect((await processEvents(bench, [event])).size).toBe(0);
      await reconcile(bench, accountId, { by: 'reconciler' });

      expect(statusOf(first.id)).toBe('active');
      expect(statusOf(second.id)).toBe('canceled');
      expect(refundsOf(paymentIntent)).toHaveLength(1);
      expect(await count(accountId, 'subscription.duplicate_canceled')).toBe(1);
      expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(1);
      const [told] = await em().find(AuditEntry, { accountId, action: 'subscription.duplicate_canceled' });
      expect(told?.payload).toMatchObject({ refunded_cents: 9900 });
      expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({
        tier: 'api_scale',
        version: 1,
      });
      if (!crash.reached()) break;
    }
    // The subscriptions, the payments, the refund, the end, and the reading of what was given back.
    expect(crashes).toBeGreaterThanOrEqual(6);
  });

  it('is given back and ended once, however many notice it at the same time', async () => {
    const { accountId, second, paymentIntent } = await subscribedTwice({ paid: true });
    const other = { ...bench, db: await bench.another() };
    const ids = [];
    for (let n = 0; n < 4; n++) ids.push(await deliver(bench, 'customer.subscription.updated', second));
    await Promise.all([
      ...ids.map((id, n) => processEvents(n % 2 ? bench : other, [id])),
      reconcile(other, accountId, { by: 'reconciler' }),
      reconcile(bench, accountId, { by: 'reconciler' }),
    ]);
    expect(refundsOf(paymentIntent)).toHaveLength(1);
    expect(await count(accountId, 'subscription.duplicate_canceled')).toBe(1);
    expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(1);
  });

  it('that staff ends while we are about to is not ours to give back', async () => {
    const { accountId, second, paymentIntent } = await subscribedTwice({ paid: true });
    bench.stripe.interfere(({ method }) => {
      if (method === 'DELETE') bench.stripe.change(second.id, { status: 'canceled' });
      return undefined;
    });
    const alarms: string[] = [];
    const deps = { ...bench, onAlarm: ({ kind }: { kind: string }) => void alarms.push(kind) };
    const event = await deliver(bench, 'customer.subscription.created', second);
    expect((await processEvents(deps, [event])).size).toBe(0);
    await reconcile(deps, accountId, { by: 'reconciler' });
    expect(statusOf(second.id)).toBe('canceled');
    expect(refundsOf(paymentIntent)).toHaveLength(0);
    expect(await count(accountId, 'subscription.duplicate_canceled')).toBe(0);
    expect(alarms).toEqual([]);
  });

  it('that a slow bank pays only after its end is given back then, once', { timeout: 120_000 }, async () => {
    for (let n = 1; ; n++) {
      const { accountId, second, invoice, paymentIntent } = await subscribedTwice({ paid: false });
      await processEvents(bench, [await deliver(bench, 'customer.subscription.created', second)]);
      expect(statusOf(second.id)).toBe('canceled');
      expect(refundsOf(paymentIntent)).toHaveLength(0);

      bench.stripe.change(invoice.id, { status: 'paid', amount_paid: 9900 });
      settle(invoice, paymentIntent);
      const event = await deliver(bench, 'invoice.paid', invoice);
      const crash = crashAt(n);
      await processEvents(bench, [event]);
      bench.stripe.interfere(() => undefined);
      await processEvents(bench, [event]);
      await processEvents(bench, [await deliver(bench, 'invoice.paid', invoice)]);
      expect(refundsOf(paymentIntent)).toHaveLength(1);
      expect(await count(accountId, 'subscription.duplicate_refunded')).toBe(1);
      if (!crash.reached()) break;
    }
  });

  it('that was given back with its end is not given back again when its invoice is told of', async () => {
    const { accountId, second, invoice, paymentIntent } = await subscribedTwice({ paid: true });
    const ids = [
      await deliver(bench, 'customer.subscription.created', second),
      await deliver(bench, 'invoice.paid', invoice),
    ];
    for (const id of ids) await processEvents(bench, [id]);
    await processEvents(bench, [await deliver(bench, 'invoice.paid', invoice)]);
    expect(refundsOf(paymentIntent)).toHaveLength(1);
    expect(await count(accountId, 'subscription.duplicate_refunded')).toBe(0);
  });
});

describe('a second live subscription that lived for a while', () => {
  it('has all its payments given back as long as they are no more than one period of it, once', {
    timeout: 120_000,
  }, async () => {
    for (let n = 1; ; n++) {
      const { accountId, customer, second, paymentIntent } = await subscribedTwice({
        paid: true,
        amount: 7_500,
      });
      const later = [1, 2].map(() => {
        const intent = payment(customer, 1200);
        settle(invoiceOf(customer, second.id, 'paid', 1200), intent);
        return intent;
      });
      const event = await deliver(bench, 'customer.subscription.updated', second);
      const crash = crashAt(n);
      await processEvents(bench, [event]);
      bench.stripe.interfere(() => undefined);
      // Long enough for Stripe to have forgotten what it was asked for.
      bench.stripe.forgetKeys();
      await processEvents(bench, [event]);
      await reconcile(bench, accountId, { by: 'reconciler' });
      for (const intent of [paymentIntent, ...later]) expect(refundsOf(intent)).toHaveLength(1);
      const told = await em().find(AuditEntry, { accountId, action: 'subscription.duplicate_canceled' });
      expect(told.map(({ payload }) => payload['refunded_cents'])).toEqual([7_500 + 1200 + 1200]);
      expect(await count(accountId, 'subscription.duplicate_refunded')).toBe(0);
      if (!crash.reached()) break;
    }
  });

  it('and has cost more than one period of it is ended, and a person decides about the money', async () => {
    const { accountId, customer, second, paymentIntent } = await subscribedTwice({ paid: true });
    const later = payment(customer, 1200);
    settle(invoiceOf(customer, second.id, 'paid', 1200), later);
    const alarms: Alarm[] = [];
    const deps = { ...bench, onAlarm: (alarm: Alarm) => void alarms.push(alarm) };
    await processEvents(deps, [await deliver(bench, 'customer.subscription.updated', second)]);
    for (let n = 0; n < 2; n++) await reconcile(deps, accountId, { by: 'reconciler' });
    expect(statusOf(second.id)).toBe('canceled');
    for (const intent of [paymentIntent, later]) expect(refundsOf(intent)).toEqual([]);
    expect(alarms.map(({ kind }) => kind)).toEqual(['duplicate_subscription', 'duplicate_unrefunded']);
    expect(alarms[1]?.details).toMatchObject({ because: 'above_one_period', cents: 11_100 });
    const [told] = await em().find(AuditEntry, { accountId, action: 'subscription.duplicate_canceled' });
    expect(told?.payload).toMatchObject({
      refunded_cents: 0,
      left_cents: 11_100,
      left_because: 'above_one_period',
    });
    const [mail] = await em().find(Email, { accountId, template: 'duplicate_purchase_refunded' });
    expect(mail?.data).toMatchObject({
      amountCents: null,
      rest: 'with_person',
      ended: { tier: 'api_builder', billingPeriod: 'monthly' },
      kept: { tier: 'api_scale', billingPeriod: 'monthly' },
    });
  });

  it('and is paid by a bank after its end without our hearing of it is given back by reconcile', async () => {
    const { accountId, customer, second, paymentIntent } = await subscribedTwice({
      paid: true,
      amount: 8_700,
    });
    await processEvents(bench, [await deliver(bench, 'customer.subscription.created', second)]);
    const late = payment(customer, 1200);
    settle(invoiceOf(customer, second.id, 'paid', 1200), late);
    for (let n = 0; n < 2; n++) await reconcile(bench, accountId, { by: 'reconciler' });
    expect(refundsOf(paymentIntent)).toHaveLength(1);
    // The bank may have sent the refunds back since: that is for a person.
    bench.stripe.forgetKeys();
    await reconcile(bench, accountId, { by: 'reconciler' });
    for (const intent of [paymentIntent, late]) expect(refundsOf(intent)).toHaveLength(1);
    expect(await count(accountId, 'subscription.duplicate_refunded')).toBe(1);
    expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(2);
  });
});

describe('a second paid trial pack', () => {
  it('is given back once, wherever on its way we crash, and the first one stays', {
    timeout: 120_000,
  }, async () => {
    for (let n = 1; ; n++) {
      const { accountId, first, second, paymentIntent } = await packedTwice();
      const event = await deliver(bench, 'checkout.session.completed', second);
      const crash = crashAt(n);
      await processEvents(bench, [event]);
      bench.stripe.interfere(() => undefined);
      for (let again = 0; again < 2; again++) {
        await processEvents(bench, [event]);
        await synchronise(bench, accountId, { kind: 'checkout_session', sessionId: second.id });
      }
      expect(refundsOf(paymentIntent)).toHaveLength(1);
      expect(refundsOf(String(first['payment_intent']))).toHaveLength(0);
      expect(await count(accountId, 'trial_pack.duplicate_refunded')).toBe(1);
      expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(1);
      expect(await em().findOneOrFail(TrialPack, { accountId })).toMatchObject({
        stripeSessionId: first.id,
        state: 'active',
        remainingSeconds: 59_800,
      });
      if (!crash.reached()) {
        expect(n).toBeGreaterThan(3);
        break;
      }
    }
  });

  it('is given back with nothing held meanwhile, however long that takes', async () => {
    const { accountId, second } = await packedTwice();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let asked = 0;
    bench.stripe.interfere(async ({ method, path }) => {
      if (method !== 'POST' || !path.startsWith('/v1/refunds')) return undefined;
      asked += 1;
      await released;
      return undefined;
    });
    // Patient, so that the call is not made again.
    const gateway = connectStripe({
      secretKey: 'sk_test_patient',
      apiBase: bench.stripe.url,
      timeoutMs: 60_000,
    });
    const patient = { ...bench, gateway };
    const looked = synchronise(patient, accountId, { kind: 'checkout_session', sessionId: second.id });
    await expect.poll(() => asked).toBe(1);
    await expectNothingHeld(bench.db, 2_000);
    release();
    expect((await looked).size).toBe(0);
    expect(asked).toBe(1);
    expect(await count(accountId, 'trial_pack.duplicate_refunded')).toBe(1);
  });

  it('is not given back again when its money comes back to us long after; a person is told', async () => {
    const { accountId, second, paymentIntent } = await packedTwice();
    const alarms: string[] = [];
    const deps = { ...bench, onAlarm: ({ kind }: { kind: string }) => void alarms.push(kind) };
    const intent = bench.stripe.all('payment_intent').find(({ id }) => id === paymentIntent);
    const charge = intent?.['latest_charge'] as object;
    const dispute = (status: string) => {
      bench.stripe.change(paymentIntent, { latest_charge: { ...charge, disputed: true } });
      const about = { object: 'dispute', payment_intent: paymentIntent, status };
      bench.stripe.put({ id: `du_${paymentIntent}`, ...about });
    };
    const look = () =>
      synchronise(deps, accountId, { kind: 'checkout_session', sessionId: second.id }).then(() => [
        ...alarms,
      ]);

    expect(await look()).toEqual(['duplicate_trial_pack']);
    bench.stripe.forgetKeys();
    dispute('under_review');
    expect(await look(), 'the money is not ours while it is disputed').toHaveLength(1);
    dispute('won');
    expect(await look()).toEqual(['duplicate_trial_pack', 'duplicate_trial_pack']);
    expect(refundsOf(paymentIntent)).toHaveLength(1);
    expect(await count(accountId, 'trial_pack.duplicate_refunded')).toBe(1);
    bench.stripe.change(paymentIntent, { latest_charge: { ...charge, amount_refunded: 299 } });
    expect(await look(), 'a person has given it back').toHaveLength(2);
  });
});

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { readTimeline } from '../../server/operator/timeline.ts';
import type { Alarm } from '../../server/stripe/deps.ts';
import { inWords } from '../../server/stripe/repair/drift.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { processEvents } from '../support/processing.ts';
import type { Thing } from '../support/scripted-stripe.ts';
import { addCustomer, type Bench, deliver, linesFor, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterEach(() => bench.stripe.interfere(() => undefined));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const statusOf = (id: string) => bench.stripe.all('subscription').find((one) => one.id === id)?.['status'];
const entries = (accountId: string, action: string) => em().find(AuditEntry, { accountId, action });
const mails = (accountId: string) => em().find(Email, { accountId, template: 'duplicate_purchase_refunded' });

const FIRST = 1_777_593_600;
const DAY = 86_400;
const MARK = 'Cancelled by Driftstack Billing: the account already had a subscription.';

type Payment = { intent: string; paid: number };

/** A payment that Stripe has taken, and of which so much has been given back. */
function payment(amount: number, charge: Record<string, unknown> = {}): string {
  const id = bench.stripe.newId('pi');
  const latest_charge = { id: bench.stripe.newId('ch'), object: 'charge', amount, amount_refunded: 0 };
  bench.stripe.put({ id, object: 'payment_intent', latest_charge: { ...latest_charge, ...charge } });
  return id;
}

function paidInvoice(
  customer: string,
  { id }: Thing,
  payments: readonly Payment[],
  members: Partial<Thing> & { amount?: number; start?: number; end?: number } = {},
): Thing {
  const paid = payments.reduce((sum, one) => sum + one.paid, 0);
  const { amount = paid, start = FIRST, end = FIRST + 30 * DAY, ...rest } = members;
  const invoice = bench.stripe.put({
    id: bench.stripe.newId('in'),
    object: 'invoice',
    customer,
    status: 'paid',
    number: 'D-1',
    amount_paid: amount,
    amount_remaining: 0,
    attempt_count: 1,
    currency: 'usd',
    created: start,
    total: amount,
    parent: { type: 'subscription_details', subscription_details: { subscription: id } },
    status_transitions: { paid_at: start, finalized_at: null },
    lines: linesFor(id, { amount, start, end }),
    ...rest,
  });
  for (const { intent, paid: amount_paid } of payments)
    bench.stripe.put({
      id: bench.stripe.newId('inpay'),
      object: 'invoice_payment',
      invoice: invoice.id,
      amount_paid,
      status: 'paid',
      payment: { type: 'payment_intent', payment_intent: intent },
    });
  return invoice;
}

/** An account on api_scale, and a second subscription (api_builder, 99 dollars) that began as many days later. */
async function twice({ days = 0, ...members }: { days?: number } & Partial<Thing> = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const first = bench.stripe.put(subscription({ customer, lookup_key: 'driftstack_api_scale_monthly' }));
  await reconcile(bench, accountId, { by: 'reconciler' });
  const second = subscription({ customer, created: FIRST + days * DAY, ...members });
  bench.stripe.put(second);
  return { accountId, customer, first, second };
}

/** Hears of the second one, and says what we gave back and of what a person was told. */
async function hear(accountId: string, second: Thing) {
  const alarms: Alarm[] = [];
  const deps = { ...bench, onAlarm: (alarm: Alarm) => void alarms.push(alarm) };
  const earlier = bench.stripe.all('refund').length;
  const event = await deliver(bench, 'customer.subscription.updated', second);
  expect((await processEvents(deps, [event])).size).toBe(0);
  for (let n = 0; n < 2; n++) await reconcile(deps, accountId, { by: 'reconciler' });
  const refunds = bench.stripe.all('refund').slice(0, bench.stripe.all('refund').length - earlier);
  return {
    refunds: refunds
      .map((refund) => [refund['payment_intent'], Number(refund['amount'])] as const)
      .toReversed(),
    alarms: alarms.map(({ kind, details }) => [kind, details['because']]),
  };
}

const ENDED = ['duplicate_subscription', undefined];

describe('a second subscription of which', () => {
  it('the other was added later and backdated is for a person: that time may have cost nothing', async () => {
    const { accountId, customer, first, second } = await twice();
    bench.stripe.change(first.id, { created: FIRST + 20 * DAY, start_date: FIRST - 700 * DAY });
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([ENDED, ['duplicate_unrefunded', 'backdated']]);
  });

  it('the other was backdated before it began gets its share', async () => {
    const { accountId, customer, first, second } = await twice({ days: 10 });
    bench.stripe.change(first.id, { created: FIRST + 5 * DAY, start_date: FIRST - 700 * DAY });
    const intent = payment(9_900);
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    // 20 of the 30 days that were paid for.
    expect((await hear(accountId, second)).refunds).toEqual([[intent, 6_600]]);
  });

  it('staff has given a part back gets the rest of what is due', async () => {
    const { accountId, customer, second } = await twice();
    const intent = payment(9_900, { amount_refunded: 4_000 });
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([[intent, 5_900]]);
    expect(alarms).toEqual([ENDED]);
    const [told] = await entries(accountId, 'subscription.duplicate_canceled');
    expect(told?.payload).toMatchObject({ refunded_cents: 9_900, both_since: '2026-05-01T00:00:00Z' });
  });

  it('staff has given back more than is due keeps that, and gets no more', async () => {
    const { accountId, customer, first, second } = await twice();
    // The older one of the lower tier: a third of its month was over when the better one came.
    bench.stripe.change(first.id, { created: FIRST + 10 * DAY });
    const intent = payment(9_900, { amount_refunded: 7_000 });
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    expect(await hear(accountId, second)).toEqual({ refunds: [], alarms: [ENDED] });
    const [told] = await entries(accountId, 'subscription.duplicate_canceled');
    expect(told?.payload).toMatchObject({ refunded_cents: 6_600 });
  });

  it('an invoice was paid in two parts gets from both, and no more than each', async () => {
    const { accountId, customer, first, second } = await twice();
    bench.stripe.change(first.id, { created: FIRST + 10 * DAY });
    const [one, two] = [payment(5_000), payment(4_900)];
    paidInvoice(customer, second, [
      { intent: one, paid: 5_000 },
      { intent: two, paid: 4_900 },
    ]);
    const { refunds } = await hear(accountId, second);
    // Two thirds of 99 dollars: all of the payment that is listed first, and the rest of the other.
    expect(refunds).toEqual([
      [two, 4_900],
      [one, 1_700],
    ]);
  });

  it('a payment settled another invoice as well gets from it what was for this one', async () => {
    const { accountId, customer, second } = await twice();
    const [one, shared] = [payment(5_000), payment(20_000)];
    paidInvoice(customer, second, [
      { intent: one, paid: 5_000 },
      { intent: shared, paid: 4_900 },
    ]);
    const { refunds } = await hear(accountId, second);
    expect(refunds).toEqual([
      [shared, 4_900],
      [one, 5_000],
    ]);
  });

  it('one of two payments was given back in part gets no more from it than is left', async () => {
    const { accountId, customer, second } = await twice();
    const [one, two] = [payment(5_000), payment(4_900, { amount_refunded: 1_000 })];
    paidInvoice(customer, second, [
      { intent: one, paid: 5_000 },
      { intent: two, paid: 4_900 },
    ]);
    const { refunds } = await hear(accountId, second);
    expect(refunds).toEqual([
      [two, 3_900],
      [one, 5_000],
    ]);
  });

  it('a part was paid in cash leaves that to a person', async () => {
    const { accountId, customer, second } = await twice();
    const intent = payment(5_000);
    paidInvoice(customer, second, [{ intent, paid: 5_000 }], { amount: 9_900 });
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([[intent, 5_000]]);
    expect(alarms).toEqual([ENDED, ['duplicate_unrefunded', 'not_refundable']]);
    const [told] = await entries(accountId, 'subscription.duplicate_canceled');
    expect(told?.payload).toMatchObject({
      refunded_cents: 5_000,
      left_cents: 4_900,
      left_because: 'not_refundable',
    });
    expect((await mails(accountId))[0]?.data).toMatchObject({ amountCents: 5_000, rest: 'with_person' });
  });

  it('a payment is disputed leaves that to the bank', async () => {
    const { accountId, customer, second } = await twice();
    const intent = payment(9_900, { disputed: true });
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([ENDED, ['duplicate_unrefunded', 'disputed']]);
    expect((await mails(accountId))[0]?.data).toMatchObject({ amountCents: null, rest: 'with_bank' });
  });

  it('a credit note was made leaves all of it to a person', async () => {
    const { accountId, customer, second } = await twice();
    const members = { post_payment_credit_notes_amount: 2_000 };
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }], members);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([ENDED, ['duplicate_unrefunded', 'credit_note']]);
  });

  it('there are more invoices than Stripe lists at once is looked at to the oldest', async () => {
    const { accountId, customer, first, second } = await twice();
    bench.stripe.change(first.id, { created: FIRST + 10 * DAY });
    const intent = payment(9_900);
    // Put in first, so that it is listed last.
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    for (let n = 1; n <= 105; n++) {
      const start = FIRST - n * 30 * DAY;
      paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }], {
        start,
        end: start + 30 * DAY,
      });
    }
    const { refunds } = await hear(accountId, second);
    expect(refunds).toEqual([[intent, 6_600]]);
  });
});

describe('of a second subscription that an earlier version ended', () => {
  const ended = { status: 'canceled', ended_at: FIRST + 20 * DAY, cancellation_details: { comment: MARK } };

  it('the money is given back where there is one that it was beside', async () => {
    const { accountId, customer, second } = await twice(ended);
    const intent = payment(9_900);
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    expect(await hear(accountId, second)).toEqual({ refunds: [[intent, 9_900]], alarms: [] });
  });

  it('a person is told where there are two that it may have been beside', async () => {
    const { accountId, customer, second } = await twice(ended);
    const over = { status: 'canceled', ended_at: FIRST + 25 * DAY };
    bench.stripe.put(subscription({ customer, ...over }));
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([['duplicate_unrefunded', 'beside_unknown']]);
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toHaveLength(1);
  });
});

describe('the mark on a subscription that we ended', () => {
  it('names the one beside it, which tells the amount after any crash', async () => {
    const { accountId, customer, first, second } = await twice();
    bench.stripe.change(first.id, { created: FIRST + 10 * DAY });
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    await hear(accountId, second);
    const held = bench.stripe.all('subscription').find(({ id }) => id === second.id);
    expect(held?.['cancellation_details']).toEqual({ comment: `${MARK} Beside ${first.id}` });
  });

  it('is for a person where the one it names was not there', async () => {
    const { accountId, customer, second } = await twice({
      status: 'canceled',
      ended_at: FIRST + 20 * DAY,
      cancellation_details: { comment: `${MARK} Beside sub_gone` },
    });
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([['duplicate_unrefunded', 'beside_unknown']]);
  });

  it('is not what a customer writes as the reason in a portal', async () => {
    const { accountId, customer, first, second } = await twice({
      status: 'canceled',
      ended_at: FIRST + 20 * DAY,
    });
    bench.stripe.change(second.id, {
      cancellation_details: { comment: `${MARK} Beside ${first.id}`, feedback: 'other' },
    });
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    expect(await hear(accountId, second)).toEqual({ refunds: [], alarms: [] });
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toEqual([]);
  });
});

describe('where one of two is to end by itself', () => {
  it('none is ended, nothing is given back, and a person is told of the pair once', async () => {
    const { accountId, customer, first, second } = await twice({ cancel_at: FIRST + 20 * DAY });
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    const calls = bench.stripe.calls.length;
    const dry = await reconcile(bench, accountId, { by: 'reconciler', dryRun: true });
    expect(dry.map(inWords)).toEqual([
      `surplus subscription ${second.id}: ours none, Stripe's live (left to a person, ${second.id}: ends by itself)`,
    ]);
    const { refunds, alarms } = await hear(accountId, second);
    expect(bench.stripe.calls.slice(calls).map(({ method }) => method)).not.toContain('DELETE');
    expect(refunds).toEqual([]);
    // It is told and written down once, and each night names it as long as it lasts.
    expect(alarms).toEqual([['duplicate_left', 'ends_by_itself']]);
    for (let night = 0; night < 2; night += 1)
      expect((await reconcile(bench, accountId, { by: 'reconciler' })).map(inWords)).toEqual(
        dry.map(inWords),
      );
    const { happenings } = await readTimeline(bench.db, accountId, bench.clock.now());
    expect(happenings.map(({ name }) => name)).toContain('subscription.duplicate_left');
    expect((await entries(accountId, 'subscription.duplicate_left')).map(({ payload }) => payload)).toEqual([
      expect.objectContaining({ beside: first.id, because: 'ends_by_itself', because_of: second.id }),
    ]);
    expect(await mails(accountId)).toEqual([]);
    expect(await entries(accountId, 'operator.reconciled')).toHaveLength(1);
    expect([statusOf(first.id), statusOf(second.id)]).toEqual(['active', 'active']);
    expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({
      stripeSubscriptionId: first.id,
    });

    // Another reason is news.
    bench.stripe.change(second.id, { cancel_at: null, pause_collection: { behavior: 'void' } });
    expect((await hear(accountId, second)).alarms).toEqual([['duplicate_left', 'paused']]);
    expect(await entries(accountId, 'subscription.duplicate_left')).toHaveLength(2);

    bench.stripe.change(second.id, { pause_collection: null });
    await hear(accountId, second);
    expect([statusOf(first.id), statusOf(second.id)]).toEqual(['active', 'canceled']);
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toHaveLength(1);
  });
});

describe('between our reading and our ending', () => {
  it('somebody may set one of them to end: then none is ended by us', async () => {
    const { accountId, customer, first, second } = await twice();
    const intent = payment(9_900);
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    let reads = 0;
    bench.stripe.interfere(({ method, path }) => {
      if (method === 'GET' && path.startsWith('/v1/subscriptions?')) reads += 1;
      if (reads === 2) bench.stripe.change(first.id, { cancel_at: FIRST + 20 * DAY });
      return undefined;
    });
    const event = await deliver(bench, 'customer.subscription.updated', second);
    expect((await processEvents(bench, [event])).size).toBe(0);
    expect([statusOf(first.id), statusOf(second.id)]).toEqual(['active', 'active']);
    bench.stripe.interfere(() => undefined);
    expect((await hear(accountId, second)).refunds).toEqual([]);
    expect(await entries(accountId, 'subscription.duplicate_left')).toHaveLength(1);
  });

  it('whose refund Stripe refuses for good is for a person, and all else of the account goes on', async () => {
    const { accountId, customer, first, second } = await twice();
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    bench.stripe.interfere(({ path }) =>
      path === '/v1/refunds'
        ? {
            kind: 'answer',
            status: 400,
            body: JSON.stringify({
              error: {
                type: 'invalid_request_error',
                code: 'balance_insufficient',
                message: 'Insufficient funds in your Stripe balance to refund this amount.',
              },
            }),
          }
        : undefined,
    );
    const { refunds, alarms } = await hear(accountId, second);
    expect(refunds).toEqual([]);
    expect(alarms).toEqual([ENDED, ['duplicate_unrefunded', 'not_refundable']]);
    const [told] = await entries(accountId, 'subscription.duplicate_canceled');
    expect(told?.payload).toMatchObject({
      refunded_cents: 0,
      left_cents: 9_900,
      left_because: 'not_refundable',
    });
    expect((await mails(accountId)).map(({ data }) => data)).toMatchObject([
      { amountCents: null, rest: 'with_person' },
    ]);
    bench.stripe.change(first.id, { cancel_at_period_end: true });
    expect((await hear(accountId, first)).alarms).toEqual([]);
    const row = await em().findOneOrFail(Subscription, { accountId });
    expect(row).toMatchObject({ stripeSubscriptionId: first.id, cancelAtPeriodEnd: true });
  });

  it('and after a crash staff may give back a part: the rest follows', async () => {
    const { accountId, customer, second } = await twice();
    const intent = payment(9_900);
    paidInvoice(customer, second, [{ intent, paid: 9_900 }]);
    bench.stripe.interfere(({ path }) => (path === '/v1/refunds' ? { kind: 'lost_answer' } : undefined));
    const event = await deliver(bench, 'customer.subscription.updated', second);
    expect((await processEvents(bench, [event])).size).toBe(1);
    bench.stripe.interfere(() => undefined);
    // The bank has sent ours back, and staff has begun to make it good.
    const held = bench.stripe.all('payment_intent').find(({ id }) => id === intent);
    const charge = held?.['latest_charge'] as object;
    bench.stripe.change(intent, { latest_charge: { ...charge, amount_refunded: 4_000 } });
    expect((await processEvents(bench, [event])).size).toBe(0);
    const amounts = bench.stripe
      .all('refund')
      .filter((refund) => refund['payment_intent'] === intent)
      .map((refund) => Number(refund['amount']));
    expect(amounts.toSorted()).toEqual([5_900, 9_900]);
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toHaveLength(1);
  });
});

describe('a dry run', () => {
  it.each([
    ['ended; to give back: $99.00', 1],
    ['ended; left to a person, above one period: $198.00', 2],
  ])('says of a second subscription: %s', async (outlook, invoices) => {
    const { accountId, customer, second } = await twice();
    for (let n = 0; n < invoices; n++) {
      const start = FIRST + n * 30 * DAY;
      paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }], {
        start,
        end: start + 30 * DAY,
      });
    }
    const dry = await reconcile(bench, accountId, { by: 'reconciler', dryRun: true });
    expect(dry).toMatchObject([{ kind: 'surplus_subscription', id: second.id, outlook }]);
    expect(bench.stripe.all('refund').filter(({ customer: of }) => of === customer)).toEqual([]);
    expect(statusOf(second.id)).toBe('active');
    expect(await mails(accountId)).toEqual([]);
    expect(await reconcile(bench, accountId, { by: 'reconciler' })).toEqual(dry);
    expect(statusOf(second.id)).toBe('canceled');
  });
});

describe('what was paid late for a second subscription', () => {
  it('of a customer whom Stripe has deleted since is for a person', async () => {
    const { accountId, customer, second } = await twice();
    await hear(accountId, second);
    const late = paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    bench.stripe.put({ id: customer, object: 'customer', deleted: true });
    const alarms: Alarm[] = [];
    const deps = { ...bench, onAlarm: (alarm: Alarm) => void alarms.push(alarm) };
    const ids = [
      await deliver(bench, 'customer.deleted', { id: customer, object: 'customer' }),
      await deliver(bench, 'invoice.paid', late),
    ];
    for (let n = 0; n < 2; n++) expect((await processEvents(deps, ids)).size).toBe(0);
    const told = alarms.filter(({ kind }) => kind === 'duplicate_unrefunded');
    expect(told.map(({ details }) => details['because'])).toEqual(['beside_unknown']);
    expect(await entries(accountId, 'subscription.duplicate_unrefunded')).toHaveLength(1);
  });

  it('is for a person where it comes to more than a period together with the rest', async () => {
    const { accountId, customer, second } = await twice();
    paidInvoice(customer, second, [{ intent: payment(9_900), paid: 9_900 }]);
    await hear(accountId, second);
    const intent = payment(9_900);
    const start = FIRST + 30 * DAY;
    const late = paidInvoice(customer, second, [{ intent, paid: 9_900 }], { start, end: start + 30 * DAY });
    const alarms: Alarm[] = [];
    const deps = { ...bench, onAlarm: (alarm: Alarm) => void alarms.push(alarm) };
    for (let n = 0; n < 2; n++) await processEvents(deps, [await deliver(bench, 'invoice.paid', late)]);
    expect(alarms.map(({ details }) => details['because'])).toEqual(['above_one_period']);
    expect(bench.stripe.all('refund').filter((one) => one['payment_intent'] === intent)).toEqual([]);
    const [told] = await entries(accountId, 'subscription.duplicate_unrefunded');
    expect(told?.payload).toMatchObject({ refunded_cents: 0, left_cents: 9_900 });
    expect(await mails(accountId)).toHaveLength(1);
  });
});

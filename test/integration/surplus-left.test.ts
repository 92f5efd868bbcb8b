import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import type { Alarm } from '../../server/stripe/deps.ts';
import { inWords } from '../../server/stripe/repair/drift.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { processEvents } from '../support/processing.ts';
import type { Call, Fault, Thing } from '../support/scripted-stripe.ts';
import { addCustomer, type Bench, deliver, linesFor, openBench, subscription } from '../support/stripe.ts';

/** Second subscriptions with which Stripe, or somebody there, comes in between. */
let bench: Bench;
const alarms: Alarm[] = [];
beforeAll(async () => {
  bench = { ...(await openBench()), onAlarm: (alarm) => void alarms.push(alarm) };
});
afterEach(() => {
  bench.stripe.interfere(() => undefined);
  alarms.splice(0);
});
afterAll(() => bench.close());

const FIRST = 1_777_593_600;
const DAY = 86_400;

const em = () => bench.db.orm.em.fork();
const held = (id: string) => bench.stripe.all('subscription').find((one) => one.id === id);
const entries = (accountId: string, action: string) => em().find(AuditEntry, { accountId, action });
const mails = (accountId: string) => em().find(Email, { accountId, template: 'duplicate_purchase_refunded' });
const told = () => alarms.map(({ kind, details }) => [kind, details['because']]);
const refundsOf = (intent: string) =>
  bench.stripe
    .all('refund')
    .flatMap((one) => (one['payment_intent'] === intent ? Number(one['amount']) : []));

/** One on api_scale, and so many of api_builder that began ten days later, each paid for May. */
async function several(count = 1) {
  const { accountId, customer } = await addCustomer(bench);
  const first = bench.stripe.put(subscription({ customer, lookup_key: 'driftstack_api_scale_monthly' }));
  await reconcile(bench, accountId, { by: 'reconciler' });
  const others = Array.from({ length: count }, (_, n) => {
    const members = { customer, created: FIRST + 10 * DAY + n, start_date: FIRST + 10 * DAY + n };
    const second = bench.stripe.put(subscription(members));
    return { second, intent: pay(customer, second) };
  });
  return { accountId, customer, first, others };
}

/** Pays 99 dollars for thirty days of a subscription, from its beginning. */
function pay(customer: string, { id, created }: Thing): string {
  const start = Number(created);
  const intent = bench.stripe.newId('pi');
  const charge = { id: bench.stripe.newId('ch'), object: 'charge', amount: 9_900, amount_refunded: 0 };
  bench.stripe.put({ id: intent, object: 'payment_intent', latest_charge: charge });
  const invoice = bench.stripe.put({
    ...{ id: bench.stripe.newId('in'), object: 'invoice', customer, status: 'paid', currency: 'usd' },
    ...{ amount_paid: 9_900, amount_remaining: 0, total: 9_900, attempt_count: 1, created: start },
    parent: { type: 'subscription_details', subscription_details: { subscription: id } },
    status_transitions: { paid_at: start, finalized_at: null },
    lines: linesFor(id, { amount: 9_900, start, end: start + 30 * DAY }),
  });
  bench.stripe.put({
    ...{ id: bench.stripe.newId('inpay'), object: 'invoice_payment', status: 'paid', amount_paid: 9_900 },
    ...{ invoice: invoice.id, payment: { type: 'payment_intent', payment_intent: intent } },
  });
  return intent;
}

const refuse = (isRefused: (call: Call) => boolean) =>
  bench.stripe.interfere((call): Fault | undefined => {
    if (!isRefused(call)) return undefined;
    const message = 'This subscription is managed by its schedule and cannot be canceled.';
    const error = { type: 'invalid_request_error', message };
    return { kind: 'answer', status: 400, body: JSON.stringify({ error }) };
  });

describe('a second subscription that Stripe refuses to end, for good,', () => {
  it('is left to a person, and all else of the account goes on', async () => {
    const { accountId, first, others } = await several();
    const [{ second, intent } = { second: first, intent: '' }] = others;
    refuse(({ method, path }) => method === 'DELETE' && path.includes(second.id));
    const event = await deliver(bench, 'customer.subscription.updated', second);
    expect((await processEvents(bench, [event])).size).toBe(0);
    expect(await em().findOneOrFail(StripeEvent, event)).toMatchObject({ state: 'done', error: null });
    expect(told()).toEqual([['duplicate_left', 'cancel_refused']]);
    expect(held(second.id)).toMatchObject({ status: 'active' });
    expect(refundsOf(intent)).toEqual([]);
    expect(await mails(accountId)).toEqual([]);

    // Told and written down once, named by each night.
    const differences = await reconcile(bench, accountId, { by: 'reconciler' });
    expect(differences.map(inWords)).toEqual([
      `surplus subscription ${second.id}: ours none, Stripe's live (left to a person, ${second.id}: cancel refused)`,
    ]);
    expect(told()).toEqual([['duplicate_left', 'cancel_refused']]);
    expect((await entries(accountId, 'subscription.duplicate_left')).map(({ payload }) => payload)).toEqual([
      expect.objectContaining({ beside: first.id, because: 'cancel_refused', because_of: second.id }),
    ]);
    expect(await entries(accountId, 'operator.reconciled')).toHaveLength(1);

    // Once Stripe does it, it is ended and given back as any other.
    bench.stripe.interfere(() => undefined);
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(held(second.id)).toMatchObject({ status: 'canceled' });
    expect(refundsOf(intent)).toEqual([9_900]);
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toHaveLength(1);
  });

  it('does not keep a third one from being ended', async () => {
    const { accountId, others } = await several(2);
    const [left, ended] = others;
    if (!left || !ended) throw new Error('two were made');
    refuse(({ method, path }) => method === 'DELETE' && path.includes(left.second.id));
    const event = await deliver(bench, 'customer.subscription.updated', ended.second);
    expect((await processEvents(bench, [event])).size).toBe(0);
    expect([held(left.second.id)?.['status'], held(ended.second.id)?.['status']]).toEqual([
      'active',
      'canceled',
    ]);
    expect([refundsOf(left.intent), refundsOf(ended.intent)]).toEqual([[], [9_900]]);
    expect(told()).toEqual([
      ['duplicate_subscription', undefined],
      ['duplicate_left', 'cancel_refused'],
    ]);
    expect(await entries(accountId, 'subscription.duplicate_left')).toHaveLength(1);
  });

  it('is written down though the pair had been left for another reason before', async () => {
    const { accountId, others } = await several();
    const second = others[0]?.second.id ?? '';
    bench.stripe.change(second, { cancel_at: FIRST + 20 * DAY });
    await reconcile(bench, accountId, { by: 'reconciler' });
    bench.stripe.change(second, { cancel_at: null });
    refuse(({ method }) => method === 'DELETE');
    await reconcile(bench, accountId, { by: 'reconciler' });
    const left = await entries(accountId, 'subscription.duplicate_left');
    expect(left.map(({ payload }) => payload['because']).sort()).toEqual([
      'cancel_refused',
      'ends_by_itself',
    ]);
  });

  it('is no such thing while Stripe is away, or asks for another key', async () => {
    for (const status of [503, 401]) {
      const { accountId, others } = await several();
      bench.stripe.interfere(({ method }) =>
        method === 'DELETE' ? { kind: 'answer', status, body: '{"error":{"type":"api_error"}}' } : undefined,
      );
      const event = await deliver(bench, 'customer.subscription.updated', others[0]?.second ?? {});
      await processEvents(bench, [event]).catch(() => undefined);
      expect(await em().findOneOrFail(StripeEvent, event)).toMatchObject({ state: 'received' });
      expect(await entries(accountId, 'subscription.duplicate_left')).toEqual([]);
    }
  });
});

describe('a second subscription that we ended before its customer was deleted', () => {
  /** Ends the second one, dies before anything is written, and then staff deletes the customer. */
  async function interrupted() {
    const { accountId, customer, first, others } = await several();
    const [{ second, intent } = { second: first, intent: '' }] = others;
    bench.stripe.interfere(({ path }) =>
      path.startsWith('/v1/invoices') ? { kind: 'answer', status: 503, body: '{}' } : undefined,
    );
    const updated = await deliver(bench, 'customer.subscription.updated', second);
    await processEvents(bench, [updated]).catch(() => undefined);
    bench.stripe.interfere(() => undefined);
    alarms.splice(0);
    expect(held(second.id)).toMatchObject({ status: 'canceled' });
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toEqual([]);
    const over = bench.stripe.change(second.id, { ended_at: FIRST + 10 * DAY });
    bench.stripe.change(first.id, { status: 'canceled', ended_at: FIRST + 11 * DAY });
    bench.stripe.put({ id: customer, object: 'customer', deleted: true });
    const events = {
      updated,
      deleted: await deliver(bench, 'customer.deleted', { id: customer, object: 'customer' }),
      over: await deliver(bench, 'customer.subscription.deleted', over),
    };
    return { accountId, customer, first, second, intent, events };
  }

  it.each([
    [
      'heard of with the deletion',
      (all: Record<'updated' | 'deleted' | 'over', string>) => [Object.values(all)],
    ],
    ['heard of after the deletion', ({ updated, deleted, over }) => [[updated, deleted], [over]]],
  ])('is given back, once, and its customer is told: %s', async (_, inTurn) => {
    const { accountId, second, first, intent, events } = await interrupted();
    for (const ids of [...inTurn(events), ...inTurn(events)])
      expect((await processEvents(bench, ids)).size).toBe(0);
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(refundsOf(intent)).toEqual([9_900]);
    expect(
      (await entries(accountId, 'subscription.duplicate_canceled')).map(({ payload }) => payload),
    ).toEqual([expect.objectContaining({ beside: first.id, refunded_cents: 9_900 })]);
    expect((await mails(accountId)).map(({ data }) => data)).toMatchObject([{ amountCents: 9_900 }]);
    expect(held(second.id)).toMatchObject({ status: 'canceled' });
  });

  it('is for a person where Stripe does not tell any more what it was beside', async () => {
    const { accountId, first, intent, events } = await interrupted();
    bench.stripe.forget(first.id);
    expect((await processEvents(bench, Object.values(events))).size).toBe(0);
    expect(refundsOf(intent)).toEqual([]);
    expect(told()).toEqual([['duplicate_unrefunded', 'beside_unknown']]);
    const [entry] = await entries(accountId, 'subscription.duplicate_canceled');
    expect(entry?.payload).toMatchObject({ refunded_cents: 0, left_cents: 9_900 });
  });

  it('is read on its own only where Stripe does not list it, and only what we ended counts', async () => {
    const { accountId, customer, first } = await several(0);
    const calls = () => bench.stripe.calls.filter(({ path }) => path.startsWith('/v1/subscriptions/'));
    bench.stripe.change(first.id, { status: 'canceled', ended_at: FIRST + 11 * DAY });
    const before = calls().length;
    const event = await deliver(bench, 'customer.subscription.deleted', held(first.id) ?? {});
    expect((await processEvents(bench, [event])).size).toBe(0);
    expect(calls()).toHaveLength(before);
    bench.stripe.put({ id: customer, object: 'customer', deleted: true });
    const events = [
      await deliver(bench, 'customer.deleted', { id: customer, object: 'customer' }),
      await deliver(bench, 'customer.subscription.deleted', held(first.id) ?? {}),
    ];
    expect((await processEvents(bench, events)).size).toBe(0);
    expect(calls()).toHaveLength(before + 1);
    expect(await entries(accountId, 'subscription.duplicate_canceled')).toEqual([]);
    expect(alarms).toEqual([]);
  });
});

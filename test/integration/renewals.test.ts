import type Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Email } from '../../server/database/entities/journal.ts';
import { processEvents } from '../support/processing.ts';
import type { Thing } from '../support/scripted-stripe.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';
import { lines, ofSubscription, periodLine } from '../support/stripe-invoices.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const BUILDER = 'driftstack_api_builder_monthly';
const STARTER = 'driftstack_api_starter_annual';
/** The subscription's period is May; Stripe announces its renewal on the 25th. */
const [MAY, ANNOUNCED, JUNE, JULY] = [
  Date.UTC(2026, 4, 1),
  Date.UTC(2026, 4, 25),
  Date.UTC(2026, 5, 1),
  Date.UTC(2026, 6, 1),
].map((ms) => ms / 1000) as [number, number, number, number];

async function subscribed(members: Parameters<typeof subscription>[0] = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer, ...members }));
  expect(
    (await processEvents(bench, [await deliver(bench, 'customer.subscription.created', sub)])).size,
  ).toBe(0);
  preview(sub.id);
  return { accountId, customer, sub };
}

/** What Stripe says the next renewal will be: by default another month, for $99.00. */
function preview(
  subscriptionId: string,
  {
    key = BUILDER,
    amount = 9_900,
    startsAt = JUNE,
    ...members
  }: { key?: string; amount?: number; startsAt?: number } & Partial<Stripe.Invoice> = {},
): void {
  const period = periodLine(subscriptionId, key, { amount, startsAt });
  const upcoming = {
    ...ofSubscription(subscriptionId),
    lines: lines([period]),
    currency: 'usd',
    amount_due: amount,
    ...members,
  };
  bench.stripe.put({ ...upcoming, id: 'upcoming', object: 'invoice' });
}

/** An announcement made at this moment; `about` names its subscription, as Stripe does. */
async function announced(customer: string, about: Thing | null, created = ANNOUNCED) {
  const object = { object: 'invoice', customer, ...(about && ofSubscription(about.id)) };
  const id = await deliver(bench, 'invoice.upcoming', object, { created });
  expect((await processEvents(bench, [id])).size).toBe(0);
}

const noticesOf = async (accountId: string) =>
  (await bench.db.orm.em.fork().find(Email, { accountId, template: 'renewal_upcoming' })).map(
    ({ data }) => data,
  );

const previewCalls = () => bench.stripe.calls.filter(({ path }) => path === '/v1/invoices/create_preview');

describe('the notice of a renewal', () => {
  it('says what Stripe’s preview says, once per period, whatever is repeated', async () => {
    const { accountId, customer, sub } = await subscribed();
    for (let n = 0; n < 2; n++) await announced(customer, sub);
    await announced(customer, null, ANNOUNCED + 60);
    expect(await noticesOf(accountId)).toEqual([
      {
        plan: { tier: 'api_builder', billingPeriod: 'monthly' },
        amountCents: 9_900,
        currency: 'usd',
        renewsAt: '2026-06-01T00:00:00.000Z',
        charged: true,
      },
    ]);
  });

  it('of a booked change asks the schedule, and tells plan, price and day as they belong together', async () => {
    const { accountId, customer, sub } = await subscribed();
    const phase = (key: string, start_date: number, end_date: number) => ({
      start_date,
      end_date,
      items: [{ price: `price_${key}` }],
    });
    const schedule = {
      id: 'sub_sched_1',
      object: 'subscription_schedule',
      status: 'active',
      end_behavior: 'release',
      current_phase: { start_date: MAY, end_date: JUNE },
      phases: [phase(BUILDER, MAY, JUNE), phase(STARTER, JUNE, JULY)],
    };
    bench.stripe.change(sub.id, { schedule });
    preview(sub.id, { key: STARTER, amount: 29_000 });
    await announced(customer, sub);
    expect(previewCalls().at(-1)?.body).toBe('schedule=sub_sched_1');
    expect(await noticesOf(accountId)).toMatchObject([
      { plan: { tier: 'api_starter', billingPeriod: 'annual' }, amountCents: 29_000 },
    ]);
  });

  it('never pairs a booked plan with the price of another', async () => {
    const { accountId, customer, sub } = await subscribed();
    // The preview knows nothing of what is booked: then neither does the notice.
    const schedule = {
      id: 'sub_sched_2',
      object: 'subscription_schedule',
      status: 'active',
      end_behavior: 'release',
      current_phase: { start_date: MAY, end_date: JUNE },
      phases: [
        { start_date: MAY, end_date: JUNE, items: [{ price: `price_${BUILDER}` }] },
        { start_date: JUNE, end_date: JULY, items: [{ price: `price_${STARTER}` }] },
      ],
    };
    bench.stripe.change(sub.id, { schedule });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toMatchObject([
      { plan: { tier: 'api_builder', billingPeriod: 'monthly' }, amountCents: 9_900 },
    ]);
  });

  it('heard after the renewal says nothing, and leaves room for the next one', async () => {
    const { accountId, customer, sub } = await subscribed();
    const items = structuredClone(sub['items']) as { data: object[] };
    const [item] = items.data;
    const june = { ...item, current_period_start: JUNE, current_period_end: JULY };
    bench.stripe.change(sub.id, { items: { ...items, data: [june] } });
    preview(sub.id, { startsAt: JULY, amount: 12_000 });
    await announced(customer, sub);
    await announced(customer, null);
    expect(await noticesOf(accountId)).toEqual([]);
    await announced(customer, sub, JUNE + 24 * 86_400);
    expect(await noticesOf(accountId)).toMatchObject([
      { amountCents: 12_000, renewsAt: '2026-07-01T00:00:00.000Z' },
    ]);
  });

  it('says nothing of the renewal after next, which a preview made a moment too late is about', async () => {
    const { accountId, customer, sub } = await subscribed();
    preview(sub.id, { startsAt: JULY, amount: 12_000 });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toEqual([]);
  });

  it('of another subscription of the same customer is not one of the plan', async () => {
    const { accountId, customer } = await subscribed();
    const calls = previewCalls().length;
    await announced(customer, { id: 'sub_consulting', object: 'subscription' });
    expect(await noticesOf(accountId)).toEqual([]);
    expect(previewCalls()).toHaveLength(calls);
  });

  it('that bills nothing of our catalogue is not one of the plan', async () => {
    const { accountId, customer, sub } = await subscribed();
    preview(sub.id, { key: 'somebody_elses' });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toEqual([]);
  });

  it.each([
    ['paused collection', { pause_collection: { behavior: 'void', resumes_at: null } }],
    ['a cancellation at its end', { cancel_at_period_end: true }],
    ['a cancellation before it', { cancel_at: JUNE - 86_400 }],
    ['a cancellation just then', { cancel_at: JUNE }],
    ['a trial, whose end has a mail of its own', { status: 'trialing', trial_end: JUNE }],
    ['no entitlement', { status: 'unpaid' }],
    ['a pause', { status: 'paused' }],
    [
      'a schedule that ends it then',
      {
        schedule: {
          id: 'sub_sched_3',
          object: 'subscription_schedule',
          status: 'active',
          end_behavior: 'cancel',
          current_phase: { start_date: MAY, end_date: JUNE },
          phases: [{ start_date: MAY, end_date: JUNE, items: [{ price: `price_${BUILDER}` }] }],
        },
      },
    ],
  ])('is not sent of a subscription with %s', async (_what, members) => {
    const { accountId, customer, sub } = await subscribed();
    bench.stripe.change(sub.id, members);
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toEqual([]);
  });

  it('is sent of a subscription that ends only later', async () => {
    const { accountId, customer, sub } = await subscribed();
    bench.stripe.change(sub.id, { cancel_at: JULY });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toHaveLength(1);
  });

  it('says that an invoice comes where nothing is charged by itself', async () => {
    const { accountId, customer, sub } = await subscribed();
    bench.stripe.change(sub.id, { collection_method: 'send_invoice' });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toMatchObject([{ charged: false }]);
  });

  it('finds the plan behind more than ten pending items', async () => {
    const { accountId, customer, sub } = await subscribed();
    const pending = Array.from({ length: 14 }, () => ({ amount: 100, description: 'Session' }));
    const period = periodLine(sub.id, BUILDER, { amount: 9_900, startsAt: JUNE });
    preview(sub.id, { lines: lines([...pending, period]), amount_due: 11_300 });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toMatchObject([
      { plan: { tier: 'api_builder' }, amountCents: 11_300, renewsAt: '2026-06-01T00:00:00.000Z' },
    ]);
  });

  it('is not confused by what is pending of another subscription', async () => {
    const { accountId, customer, sub } = await subscribed();
    bench.stripe.put(subscription({ customer, status: 'canceled', lookup_key: STARTER }));
    const other = periodLine('sub_other', STARTER, { amount: 2_900, startsAt: MAY });
    const change = periodLine(sub.id, STARTER, { amount: -500, startsAt: MAY, proration: true });
    const own = periodLine(sub.id, BUILDER, { amount: 9_900, startsAt: JUNE });
    preview(sub.id, { lines: lines([other, change, own]), amount_due: 12_300 });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toMatchObject([
      { plan: { tier: 'api_builder' }, amountCents: 12_300, renewsAt: '2026-06-01T00:00:00.000Z' },
    ]);
  });

  it('is not sent where the preview is about more than one plan', async () => {
    const { accountId, customer, sub } = await subscribed();
    bench.stripe.put(subscription({ customer, status: 'canceled', lookup_key: STARTER }));
    const both = [BUILDER, STARTER].map((key) => periodLine(sub.id, key, { amount: 100, startsAt: JUNE }));
    preview(sub.id, { lines: lines(both) });
    await announced(customer, sub);
    expect(await noticesOf(accountId)).toEqual([]);
  });
});

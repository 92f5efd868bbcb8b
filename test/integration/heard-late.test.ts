import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { processEvents } from '../support/processing.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const DAY = 86_400;
const NOW_S = NOW.getTime() / 1000;

/** Delivers an event that Stripe made at `created`, and works on it. */
async function hear(
  type: Parameters<typeof deliver>[1],
  object: Parameters<typeof deliver>[2],
  created = NOW_S,
): Promise<void> {
  const id = await deliver(bench, type, object, { created });
  expect((await processEvents(bench, [id])).size).toBe(0);
}

const mailsOf = async (accountId: string, template: string) =>
  (await bench.db.orm.em.fork().find(Email, { accountId, template }, { orderBy: { createdAt: 'asc' } })).map(
    ({ data }) => data,
  );

const tell = (sub: { id: string }, members: Record<string, unknown>) => {
  const changed = bench.stripe.change(sub.id, members);
  return hear('customer.subscription.updated', changed);
};

const auditOf = async (accountId: string, action: RegExp) =>
  (await bench.db.orm.em.fork().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } }))
    .filter((entry) => action.test(entry.action))
    .map(({ action: name, payload: { stripe_event_id: _, ...payload } }) => ({ [name]: payload }));

async function subscribed(members: Parameters<typeof subscription>[0] = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer, ...members }));
  await hear('customer.subscription.created', sub);
  return { accountId, customer, sub };
}

const itemsOf = (key: string) => subscription({ lookup_key: key })['items'];
const START = 1_777_593_600;
const END = 1_780_272_000;
const isoOf = (seconds: number) => new Date(seconds * 1000).toISOString();
const wireOf = (seconds: number) => isoOf(seconds).replace('.000', '');

describe('a planned end', () => {
  it('is told with the moment that Stripe holds, moved, undone and come true', async () => {
    const { accountId, sub } = await subscribed();
    const [eighth, tenth] = [START + 7 * DAY, START + 9 * DAY];
    await tell(sub, { cancel_at: eighth });
    await tell(sub, { cancel_at: eighth });
    await tell(sub, { cancel_at: tenth });
    await tell(sub, { cancel_at: null });
    await tell(sub, { cancel_at: tenth });
    // Heard of four days after it came true.
    bench.time.now = new Date((tenth + 4 * DAY) * 1000);
    await tell(sub, { status: 'canceled', canceled_at: START + DAY, ended_at: tenth + 3 });
    bench.time.now = NOW;
    expect(await auditOf(accountId, /cancel|ended|status/)).toEqual([
      { 'subscription.status_changed': { from: null, to: 'active' } },
      { 'subscription.cancel_scheduled': { ends_at: wireOf(eighth) } },
      { 'subscription.cancel_scheduled': { ends_at: wireOf(tenth) } },
      { 'subscription.cancel_unscheduled': {} },
      { 'subscription.cancel_scheduled': { ends_at: wireOf(tenth) } },
      { 'subscription.status_changed': { from: 'active', to: 'canceled', ended_at: wireOf(tenth + 3) } },
    ]);
    expect(await mailsOf(accountId, 'cancellation_scheduled')).toMatchObject([
      { endsAt: isoOf(eighth), before: null },
      { endsAt: isoOf(tenth), before: isoOf(eighth) },
      { endsAt: isoOf(tenth), before: null },
    ]);
    expect(await mailsOf(accountId, 'subscription_ended')).toMatchObject([{ endedAt: isoOf(tenth + 3) }]);
    expect(await bench.db.orm.em.fork().findOneOrFail(Subscription, { accountId })).toMatchObject({
      cancelAtPeriodEnd: false,
      endsAt: null,
      endedAt: new Date((tenth + 3) * 1000),
    });
  });

  it('of a customer that was deleted claims no moment', async () => {
    const { accountId, customer } = await subscribed();
    bench.stripe.change(customer, { deleted: true });
    await hear('customer.deleted', { id: customer, object: 'customer' });
    expect(await mailsOf(accountId, 'subscription_ended')).toMatchObject([{ endedAt: null }]);
    expect(await auditOf(accountId, /status/)).toContainEqual({
      'subscription.status_changed': { from: 'active', to: 'canceled' },
    });
  });
});

describe('a subscription that ended and the next one, heard of at once', () => {
  it('are an end and a start, each of its own moment and plan', async () => {
    const { accountId, customer, sub } = await subscribed({ cancel_at: START + 5 * DAY });
    bench.stripe.change(sub.id, { status: 'canceled', cancel_at: null, ended_at: START + 5 * DAY });
    const next = subscription({ customer, created: START + 6 * DAY });
    await hear('customer.subscription.created', bench.stripe.put(next));
    expect(await auditOf(accountId, /tier|status|cancel/)).toEqual([
      { 'subscription.tier_changed': { from: null, to: 'api_builder' } },
      { 'subscription.status_changed': { from: null, to: 'active' } },
      { 'subscription.cancel_scheduled': { ends_at: wireOf(START + 5 * DAY) } },
      { 'subscription.tier_changed': { from: 'api_builder', to: null } },
      {
        'subscription.status_changed': { from: 'active', to: 'canceled', ended_at: wireOf(START + 5 * DAY) },
      },
      { 'subscription.tier_changed': { from: null, to: 'api_builder' } },
      { 'subscription.status_changed': { from: 'canceled', to: 'active' } },
    ]);
    expect(await mailsOf(accountId, 'subscription_ended')).toMatchObject([
      { endedAt: isoOf(START + 5 * DAY) },
    ]);
    expect(await mailsOf(accountId, 'subscription_started')).toHaveLength(2);
    expect(await mailsOf(accountId, 'cancellation_undone')).toEqual([]);
  });
});

describe('a change of the plan', () => {
  const line = (key: string, amount: number, start: number) => ({
    id: bench.stripe.newId('il'),
    object: 'line_item',
    amount,
    period: { start, end: END },
    pricing: { type: 'price_details', price_details: { price: `price_${key}`, product: 'prod_1' } },
  });
  const invoiceOf = (billing_reason: string, ...data: ReturnType<typeof line>[]) =>
    bench.stripe.put({
      id: bench.stripe.newId('in'),
      object: 'invoice',
      billing_reason,
      lines: { object: 'list', data, has_more: false },
    });
  const [builder, scale] = ['driftstack_api_builder_monthly', 'driftstack_api_scale_annual'];
  const changed = async (accountId: string) => (await mailsOf(accountId, 'plan_changed'))[0];

  it('is dated by the lines that credit the one and bill the other, however late it is heard of', async () => {
    const { accountId, sub } = await subscribed();
    const tenth = START + 9 * DAY;
    const invoice = invoiceOf(
      'subscription_update',
      line(builder, -6_600, tenth),
      line(scale, 399_000, tenth),
    );
    bench.time.now = new Date((tenth + 6 * DAY) * 1000);
    await tell(sub, { items: itemsOf(scale), latest_invoice: invoice.id });
    bench.time.now = NOW;
    expect(await changed(accountId)).toMatchObject({ changedAt: isoOf(tenth) });
    expect(await auditOf(accountId, /(tier|period)_changed/)).toContainEqual({
      'subscription.tier_changed': { from: 'api_builder', to: 'api_scale', changed_at: wireOf(tenth) },
    });
  });

  it('is dated by the phase that brought it', async () => {
    const phase = (start: number, end: number, key: string) => ({
      start_date: start,
      end_date: end,
      items: [{ price: `price_${key}` }],
    });
    const begun = START + 12 * DAY;
    const { accountId, sub } = await subscribed();
    await tell(sub, {
      items: itemsOf(scale),
      schedule: {
        id: 'sub_sched_begun',
        object: 'subscription_schedule',
        status: 'active',
        end_behavior: 'release',
        current_phase: { start_date: begun, end_date: END },
        phases: [phase(START, begun, builder), phase(begun, END, scale)],
      },
    });
    expect(await changed(accountId)).toMatchObject({ changedAt: isoOf(begun) });
  });

  it.each([
    ['there is no invoice', () => null],
    [
      'the latest invoice is of a renewal since',
      () => invoiceOf('subscription_cycle', line(scale, 39_900, END)),
    ],
    [
      'nothing was credited at that moment',
      () =>
        invoiceOf('subscription_update', line(builder, -100, START + DAY), line(scale, 5, START + 2 * DAY)),
    ],
  ])('is not dated where %s', async (_why, invoice) => {
    const { accountId, sub } = await subscribed();
    await tell(sub, { items: itemsOf(scale), latest_invoice: invoice()?.id ?? null });
    expect(await changed(accountId)).toMatchObject({ changedAt: null });
  });
});

describe('the notice that a trial ends', () => {
  const trialing = async (trialEnd: number) => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer, status: 'trialing', trial_end: trialEnd }));
    return { accountId, sub };
  };

  it('is of the trial that ends three days after the event, not of one extended since', async () => {
    const extended = NOW_S + 30 * DAY;
    const { accountId, sub } = await trialing(extended);
    // Told three days before the first end; by the time we hear of it the trial goes on for a month.
    await hear('customer.subscription.trial_will_end', sub, NOW_S - 2 * DAY);
    expect(await mailsOf(accountId, 'trial_ending')).toEqual([]);
    // It did not take the place of the right one, which is told once.
    for (let n = 0; n < 2; n++)
      await hear('customer.subscription.trial_will_end', sub, extended - 3 * DAY + n);
    expect(await mailsOf(accountId, 'trial_ending')).toMatchObject([
      { trialEndsAt: new Date(extended * 1000).toISOString() },
    ]);
  });

  it('is not sent once the trial is over', async () => {
    const { accountId, sub } = await trialing(NOW_S - DAY);
    bench.stripe.change(sub.id, { status: 'active' });
    await hear('customer.subscription.trial_will_end', sub, NOW_S - 4 * DAY);
    expect(await mailsOf(accountId, 'trial_ending')).toEqual([]);
  });
});

import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Account } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { processEvents } from '../support/processing.ts';
import {
  addAccount,
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
const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const eventOf = (id: string) => em().findOneOrFail(StripeEvent, id);
const auditOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } })).map(
    ({ action, payload }) => ({
      action,
      payload,
    }),
  );
const actionsOf = async (accountId: string) => (await auditOf(accountId)).map(({ action }) => action);
const mailsOf = async (accountId: string) =>
  (await em().find(Email, { accountId }, { orderBy: { createdAt: 'asc' } }))
    .map(({ template }) => template)
    .sort();

/** A whole pass over somebody else, by this process: long enough for what could be done meanwhile to be done. */
async function settles(deps: Bench): Promise<void> {
  const { customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer }));
  await processEvents(deps, [await deliver(bench, 'customer.subscription.created', sub)]);
}

/** An account with one subscription, already synchronised. */
async function subscribed(members: Parameters<typeof subscription>[0] = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer, ...members }));
  await process('customer.subscription.created', sub);
  return { accountId, customer, sub };
}

async function process(type: Parameters<typeof deliver>[1], object: Parameters<typeof deliver>[2]) {
  const id = await deliver(bench, type, object);
  return { id, failures: await processEvents(bench, [id]) };
}

describe('a pass over an account', () => {
  it('takes the statements it is known to take, and no call to Stripe where nothing waits', async () => {
    // What its price means is remembered with the first one, and read once with the second.
    await subscribed();
    await subscribed();
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    const statements = async (): Promise<number> => {
      const queries = vi.spyOn(Client.prototype, 'query');
      try {
        expect((await synchronise(bench, accountId, { kind: 'events' })).size).toBe(0);
        return queries.mock.calls.length;
      } finally {
        queries.mockRestore();
      }
    };
    const arrives = (type: Parameters<typeof deliver>[1]) => deliver(bench, type, sub);
    await arrives('customer.subscription.created');
    // One of them takes the lease, which a worker does for many accounts at once.
    expect(await statements(), 'a first subscription').toBe(8);
    await arrives('customer.subscription.updated');
    expect(await statements(), 'nothing new').toBe(6);
    const calls = bench.stripe.calls.length;
    expect(await statements(), 'nothing waits').toBe(3);
    expect(bench.stripe.calls.length).toBe(calls);
  });
});

describe('a first subscription', () => {
  it('becomes the row, the audit entries and the mail, and marks its event done', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    const { id, failures } = await process('customer.subscription.created', sub);
    expect(failures.size).toBe(0);
    expect(await rowOf(accountId)).toMatchObject({
      stripeSubscriptionId: sub.id,
      tier: 'api_builder',
      billingPeriod: 'monthly',
      status: 'active',
      entitled: true,
      version: 1,
      currentPeriodEnd: new Date('2026-06-01T00:00:00Z'),
    });
    expect(await auditOf(accountId)).toEqual([
      {
        action: 'subscription.tier_changed',
        payload: { from: null, to: 'api_builder', stripe_event_id: id },
      },
      { action: 'subscription.status_changed', payload: { from: null, to: 'active', stripe_event_id: id } },
    ]);
    expect(await mailsOf(accountId)).toEqual(['subscription_started']);
    expect(await eventOf(id)).toMatchObject({ state: 'done', accountId });
  });

  it('is written once, whatever the number and order of the events that tell of it', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    const types = ['customer.subscription.updated', 'customer.subscription.created', 'invoice.paid'] as const;
    const invoice = bench.stripe.put(paidInvoice(customer));
    const ids: string[] = [];
    for (const type of types) {
      for (let n = 0; n < 3; n++)
        ids.push(await deliver(bench, type, type === 'invoice.paid' ? invoice : sub));
    }
    const other = { ...bench, db: await bench.another() };
    await Promise.all(ids.map((id, n) => processEvents(n % 2 ? bench : other, [id])));
    expect(await rowOf(accountId)).toMatchObject({ version: 1, status: 'active' });
    expect((await actionsOf(accountId)).sort()).toEqual([
      'invoice.paid',
      'subscription.status_changed',
      'subscription.tier_changed',
    ]);
    expect(await mailsOf(accountId)).toEqual(['payment_receipt', 'subscription_started']);
    for (const id of ids) expect((await eventOf(id)).state).toBe('done');
  });

  it('does not ask Stripe again when nothing is pending', async () => {
    const { sub } = await subscribed();
    const id = await deliver(bench, 'customer.subscription.updated', sub);
    await processEvents(bench, [id]);
    const before = bench.stripe.calls.length;
    await processEvents(bench, [id]);
    expect(bench.stripe.calls).toHaveLength(before);
  });
});

describe('a change', () => {
  it('of plan, cancellation and end is read from Stripe and told once each', async () => {
    const { accountId, sub } = await subscribed();
    const plan = subscription({ lookup_key: 'driftstack_api_scale_annual' });
    bench.stripe.change(sub.id, { items: plan['items'] });
    await process('customer.subscription.updated', sub);
    bench.stripe.change(sub.id, { cancel_at: 1_780_272_000 });
    await process('customer.subscription.updated', sub);
    bench.stripe.change(sub.id, { cancel_at: null });
    await process('customer.subscription.updated', sub);
    bench.stripe.change(sub.id, { status: 'canceled' });
    await process('customer.subscription.deleted', sub);

    expect(await rowOf(accountId)).toMatchObject({
      tier: 'api_scale',
      status: 'canceled',
      entitled: false,
      version: 5,
    });
    const audit = await auditOf(accountId);
    expect(
      audit.filter(({ action }) => action === 'subscription.tier_changed').map(({ payload }) => payload),
    ).toEqual([
      expect.objectContaining({ from: null, to: 'api_builder' }),
      expect.objectContaining({ from: 'api_builder', to: 'api_scale' }),
      expect.objectContaining({ from: 'api_scale', to: null }),
    ]);
    expect(audit.map(({ action }) => action)).toEqual(
      expect.arrayContaining([
        'subscription.billing_period_changed',
        'subscription.cancel_scheduled',
        'subscription.cancel_unscheduled',
      ]),
    );
    expect(await mailsOf(accountId)).toEqual([
      'cancellation_scheduled',
      'cancellation_undone',
      'plan_changed',
      'subscription_ended',
      'subscription_started',
    ]);
  });

  it('is never undone by a slower, older reading of Stripe', async () => {
    const { accountId, sub } = await subscribed();
    const other = { ...bench, db: await bench.another() };
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let waiting = 0;
    bench.stripe.interfere(async ({ path }) => {
      // The first reading is answered with what was true when it was made, long afterwards.
      if (!path.startsWith('/v1/subscriptions') || waiting++ > 0) return undefined;
      const old = bench.stripe.all('subscription').filter(({ id }) => id === sub.id);
      const body = JSON.stringify({ object: 'list', data: old, has_more: false });
      await held;
      return { kind: 'answer', status: 200, body };
    });
    bench.stripe.change(sub.id, { status: 'past_due' });
    const slowEvent = await deliver(bench, 'customer.subscription.updated', sub);
    const slow = processEvents(bench, [slowEvent]);
    await expect.poll(() => waiting).toBe(1);
    bench.stripe.change(sub.id, { status: 'unpaid' });
    const fastEvent = await deliver(bench, 'customer.subscription.updated', sub);
    let overtaken = false;
    const fast = processEvents(other, [fastEvent]).then(() => {
      overtaken = true;
    });
    // It waits for the other one's lease, as it should, and holds nothing meanwhile.
    await settles(other);
    expect(overtaken).toBe(false);
    release();
    await Promise.all([slow, fast]);
    expect(await rowOf(accountId)).toMatchObject({ status: 'unpaid' });
  });

  it('to a price nobody knows keeps the tier and raises an alarm once', async () => {
    const { accountId, sub } = await subscribed();
    const alarms: string[] = [];
    const deps = { ...bench, onAlarm: ({ kind }: { kind: string }) => void alarms.push(kind) };
    const unknown = { id: 'price_unknown', object: 'price', lookup_key: null, metadata: {} };
    bench.stripe.put({ ...unknown, product: 'prod_x' });
    bench.stripe.put({ id: 'prod_x', object: 'product', metadata: {} });
    const items = {
      data: [{ current_period_start: 1_777_593_600, current_period_end: 1_780_272_000, price: unknown }],
    };
    bench.stripe.change(sub.id, { items });
    for (let n = 0; n < 2; n++) {
      await processEvents(deps, [await deliver(bench, 'customer.subscription.updated', sub)]);
    }
    expect(await rowOf(accountId)).toMatchObject({ tier: 'api_builder', entitled: true });
    expect(alarms).toEqual(['unknown_price', 'unknown_price']);
    const actions = await actionsOf(accountId);
    expect(actions.filter((action) => action === 'subscription.price_unknown')).toHaveLength(1);
  });

  it('to a price without a lookup key is understood by the metadata of its product, and remembered', async () => {
    const { accountId, sub } = await subscribed();
    const price = {
      id: 'price_by_hand',
      object: 'price',
      lookup_key: null,
      metadata: {},
      recurring: { interval: 'year' },
    };
    bench.stripe.put({ ...price, product: 'prod_hand' });
    bench.stripe.put({ id: 'prod_hand', object: 'product', metadata: { driftstack_tier: 'agency_manual' } });
    const items = {
      data: [{ current_period_start: 1_777_593_600, current_period_end: 1_780_272_000, price }],
    };
    bench.stripe.change(sub.id, { items });
    await process('customer.subscription.updated', sub);
    expect(await rowOf(accountId)).toMatchObject({ tier: 'agency_manual', billingPeriod: 'annual' });
    const before = bench.stripe.calls.filter(({ path }) => path.includes('price_by_hand')).length;
    await process('customer.subscription.updated', sub);
    expect(bench.stripe.calls.filter(({ path }) => path.includes('price_by_hand'))).toHaveLength(before);
  });

  it('of the lookup key leaves the subscribers of the old price where they are', async () => {
    const { accountId, sub } = await subscribed({ lookup_key: 'driftstack_team_manual_annual' });
    const items = structuredClone(sub['items']) as { data: { price: { lookup_key: string | null } }[] };
    for (const { price } of items.data) price.lookup_key = null;
    bench.stripe.change(sub.id, { items, status: 'past_due' });
    await process('customer.subscription.updated', sub);
    expect(await rowOf(accountId)).toMatchObject({
      tier: 'team_manual',
      billingPeriod: 'annual',
      status: 'past_due',
    });
  });
});

describe('a second live subscription', () => {
  it('is refunded and ended at once, also when we crash in between', async () => {
    const { accountId, customer, sub } = await subscribed({ lookup_key: 'driftstack_api_scale_monthly' });
    const second = subscription({ customer });
    const invoice = bench.stripe.put({
      ...paidInvoice(customer),
      lines: linesFor(second.id, { amount: 9_900 }),
      parent: { type: 'subscription_details', subscription_details: { subscription: second.id } },
    });
    const intent = bench.stripe.newId('pi');
    bench.stripe.put({
      id: bench.stripe.newId('inpay'),
      object: 'invoice_payment',
      invoice: invoice.id,
      payment: { type: 'payment_intent', payment_intent: intent },
    });
    const charge = { id: bench.stripe.newId('ch'), object: 'charge', amount: 9900, amount_refunded: 0 };
    bench.stripe.put({ id: intent, object: 'payment_intent', latest_charge: charge });
    bench.stripe.put(second);
    const id = await deliver(bench, 'customer.subscription.created', second);
    // The answer to the cancellation is lost for good, so the first pass fails after its effect.
    bench.stripe.interfere(({ method }) => (method === 'DELETE' ? { kind: 'lost_answer' } : undefined));
    expect((await processEvents(bench, [id])).get(id)).toMatch(/Stripe/);
    expect(await actionsOf(accountId)).not.toContain('subscription.duplicate_canceled');
    bench.stripe.interfere(() => undefined);
    expect((await processEvents(bench, [id])).size).toBe(0);

    expect(bench.stripe.all('subscription').find((one) => one.id === second.id)).toMatchObject({
      status: 'canceled',
    });
    expect(bench.stripe.all('refund').filter((refund) => refund['payment_intent'] === intent)).toHaveLength(
      1,
    );
    expect(await rowOf(accountId)).toMatchObject({
      stripeSubscriptionId: sub.id,
      tier: 'api_scale',
      status: 'active',
    });
    const told = (await auditOf(accountId)).filter(
      ({ action }) => action === 'subscription.duplicate_canceled',
    );
    expect(told).toHaveLength(1);
    expect(told[0]?.payload).toMatchObject({ refunded_cents: 9900 });
    expect((await mailsOf(accountId)).filter((mail) => mail === 'duplicate_purchase_refunded')).toHaveLength(
      1,
    );
  });

  it('that is not of our catalogue is none of our business', async () => {
    const { accountId, customer } = await subscribed();
    const foreign = subscription({ customer, lookup_key: 'somebody_elses' });
    bench.stripe.put(foreign);
    bench.stripe.put({
      id: 'price_somebody_elses',
      object: 'price',
      lookup_key: 'somebody_elses',
      metadata: {},
      product: 'prod_x',
    });
    await process('customer.subscription.created', foreign);
    expect(bench.stripe.all('subscription').find(({ id }) => id === foreign.id)).toMatchObject({
      status: 'active',
    });
    expect(await rowOf(accountId)).toMatchObject({ tier: 'api_builder' });
  });
});

describe('events that cannot be carried out', () => {
  it('wait with the reason while the others of the account go on, and end as dead letters', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    const poison = await deliver(bench, 'invoice.paid', { id: 'in_poison', object: 'invoice', customer });
    const good = await deliver(bench, 'customer.subscription.created', sub);
    const broken = { kind: 'answer', status: 500, body: '{"oops":true}' } as const;
    bench.stripe.interfere(({ path }) => (path.includes('in_poison') ? broken : undefined));
    const failures = await processEvents(bench, [poison, good]);
    expect([...failures.keys()]).toEqual([poison]);
    expect(await rowOf(accountId)).toMatchObject({ status: 'active' });
    expect(await eventOf(good)).toMatchObject({ state: 'done' });
    expect(await eventOf(poison)).toMatchObject({
      state: 'received',
      attempts: 1,
      error: expect.stringMatching(/Stripe/),
    });

    // Tried often enough, and not for long enough; then both.
    const hoursAgo = (hours: number) => new Date(NOW.getTime() - hours * 3_600_000);
    await em().nativeUpdate(StripeEvent, { id: poison }, { attempts: 34, receivedAt: hoursAgo(5) });
    expect([...(await processEvents(bench, [poison])).keys()]).toEqual([poison]);
    await em().nativeUpdate(StripeEvent, { id: poison }, { attempts: 33, receivedAt: hoursAgo(7) });
    expect([...(await processEvents(bench, [poison])).keys()]).toEqual([poison]);
    expect(await eventOf(poison)).toMatchObject({ state: 'received', attempts: 34, processedAt: null });
    expect((await processEvents(bench, [poison])).size).toBe(0);
    expect(await eventOf(poison)).toMatchObject({ state: 'dead', attempts: 35, error: expect.any(String) });
    expect(bench.log.errors).toContainEqual(expect.objectContaining({ eventId: poison }));
  });

  it('do not take the others with them when the database refuses what they write', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    // A NUL is refused by jsonb; Stripe would never send one, which makes it a good stand-in for what we forgot.
    const odd = bench.stripe.put({ ...paidInvoice(customer), number: 'A\u0000B' });
    const poison = await deliver(bench, 'invoice.paid', odd);
    const good = await deliver(bench, 'customer.subscription.created', sub);
    const failures = await processEvents(bench, [poison, good]);
    expect([...failures.keys()]).toEqual([poison]);
    expect(await eventOf(good)).toMatchObject({ state: 'done' });
    expect(await eventOf(poison)).toMatchObject({ state: 'received', attempts: 1 });
    expect((await eventOf(poison)).error).toBe('The database refused it: 22P05');
    expect(await rowOf(accountId)).toMatchObject({ status: 'active', version: 1 });
  });

  it('leave everything as it was while Stripe is away', async () => {
    const { accountId, sub } = await subscribed();
    bench.stripe.change(sub.id, { status: 'past_due' });
    const id = await deliver(bench, 'customer.subscription.updated', sub);
    bench.stripe.interfere(() => ({ kind: 'answer', status: 503, body: '{}' }));
    expect([...(await processEvents(bench, [id])).keys()]).toEqual([id]);
    await expect(synchronise(bench, accountId, { kind: 'events' })).rejects.toBeInstanceOf(ProblemError);
    expect(await eventOf(id)).toMatchObject({ state: 'received', attempts: 0 });
    expect(await rowOf(accountId)).toMatchObject({ status: 'active' });
  });

  it('are ignored when nobody owns them, and set aside when they name somebody else', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const stranger = formatId('acc', await addAccount(bench));
    const before = bench.stripe.calls.length;
    const unowned = await process('invoice.paid', { id: 'in_x', object: 'invoice', customer: 'cus_unknown' });
    expect(await eventOf(unowned.id)).toMatchObject({
      state: 'ignored',
      error: expect.stringContaining('cus_unknown'),
    });
    const session = { id: 'cs_x', object: 'checkout.session', customer, client_reference_id: stranger };
    const contradiction = await process('checkout.session.completed', session);
    expect(contradiction.failures.size).toBe(0);
    expect(await eventOf(contradiction.id)).toMatchObject({
      state: 'dead',
      error: expect.stringContaining(stranger),
    });
    // What a customer of nobody's has paid for is looked at once: it may be ours.
    expect(bench.stripe.calls.slice(before).map(({ path }) => path.split('?')[0])).toEqual([
      '/v1/invoices/in_x/lines',
    ]);
    expect(await actionsOf(accountId)).toEqual([]);
  });

  it('are set aside when what Stripe holds names another account than the event said', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const stranger = formatId('acc', await addAccount(bench));
    const id = bench.stripe.newId('cs_test');
    const session = {
      id,
      object: 'checkout.session',
      customer,
      metadata: {},
      status: 'complete',
      payment_status: 'paid',
    };
    bench.stripe.put({ ...session, client_reference_id: stranger });
    const { id: eventId } = await process('checkout.session.completed', session);
    expect(await eventOf(eventId)).toMatchObject({
      state: 'dead',
      accountId,
      error: expect.stringContaining(stranger),
    });
    expect(bench.log.errors).toContainEqual(expect.objectContaining({ kind: 'contradiction' }));
    // A customer who comes back from such a session gets an answer all the same.
    const failures = await synchronise(bench, accountId, { kind: 'checkout_session', sessionId: id });
    expect(failures.size).toBe(0);
  });

  it('find their account by the payment when they have no customer of their own', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const intent = bench.stripe.put({ id: bench.stripe.newId('pi'), object: 'payment_intent', customer });
    const dispute = bench.stripe.put({ id: 'du_1', object: 'dispute', payment_intent: intent.id });
    const poison = await deliver(bench, 'charge.dispute.created', { id: 'du_poison', object: 'dispute' });
    const good = await deliver(bench, 'charge.dispute.created', dispute);
    const broken = { kind: 'answer', status: 500, body: '{}' } as const;
    bench.stripe.interfere(({ path }) => (path.includes('du_poison') ? broken : undefined));
    expect([...(await processEvents(bench, [poison, good])).keys()]).toEqual([poison]);
    expect(await eventOf(good)).toMatchObject({ state: 'done', accountId });
  });
});

it('forgets a customer that Stripe has deleted, and ends the subscription', async () => {
  const { accountId, customer } = await subscribed();
  bench.stripe.change(customer, { deleted: true });
  await process('customer.deleted', { id: customer, object: 'customer' });
  expect(await rowOf(accountId)).toMatchObject({ status: 'canceled', entitled: false });
  const account = await em().findOneOrFail(Account, accountId);
  expect(account).toMatchObject({ stripeCustomerId: null, stripeCustomerGeneration: 1 });
  expect(await actionsOf(accountId)).toContain('stripe_customer.deleted');
  expect(await mailsOf(accountId)).toContain('subscription_ended');
});

function paidInvoice(customer: string) {
  return {
    id: bench.stripe.newId('in'),
    object: 'invoice',
    customer,
    status: 'paid',
    number: 'D-0001',
    amount_paid: 9900,
    amount_remaining: 9900,
    attempt_count: 1,
    currency: 'usd',
    created: NOW.getTime() / 1000,
    hosted_invoice_url: null,
    next_payment_attempt: null,
    status_transitions: { paid_at: NOW.getTime() / 1000, finalized_at: null },
    lines: {
      data: [
        {
          description: 'API Builder',
          amount: 9900,
          pricing: { price_details: { price: 'price_driftstack_api_builder_monthly', product: 'prod_1' } },
        },
      ],
    },
  };
}

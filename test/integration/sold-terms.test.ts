import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import type { EventType } from '../../server/stripe/events.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { processEvents } from '../support/processing.ts';
import { PACK_LINES, type Thing } from '../support/scripted-stripe.ts';
import { addCustomer, type Bench, deliver, NOW, openBench } from '../support/stripe.ts';

/** What Stripe makes of coupons, of invoices for sessions and of payments outside of it, which the local one has not. */
let bench: Bench;
const kinds: string[] = [];
beforeAll(async () => {
  bench = { ...(await openBench()), onAlarm: ({ kind }) => void kinds.push(kind) };
});
beforeEach(() => void kinds.splice(0));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const unix = NOW.getTime() / 1000;
const packOf = (accountId: string) => em().findOne(TrialPack, { accountId });
const count = async (accountId: string, wanted: string) =>
  (await em().count(AuditEntry, { accountId, action: wanted })) +
  (await em().count(Email, { accountId, template: wanted }));
const refunds = () => bench.stripe.all('refund');
const tell = async (type: EventType, object: Thing) =>
  expect((await processEvents(bench, [await deliver(bench, type, object)])).size).toBe(0);

function payment(customer: string, amount: number, status = 'succeeded'): string {
  const id = bench.stripe.newId('pi');
  const charge = { id: bench.stripe.newId('ch'), object: 'charge', created: unix, currency: 'usd' };
  const latest_charge = status === 'succeeded' ? { ...charge, amount, amount_refunded: 0 } : null;
  bench.stripe.put({ id, object: 'payment_intent', status, customer, latest_charge });
  return id;
}

/** A session of a payment link that sells the pack, at what its lines cost after discounts. */
function sessionOf(customer: string, cents: number, members: Partial<Thing> = {}): Thing {
  const [line] = PACK_LINES.data;
  return bench.stripe.put({
    id: bench.stripe.newId('cs_test'),
    object: 'checkout.session',
    ...{ mode: 'payment', status: 'complete', payment_link: 'plink_1', invoice: null, metadata: {} },
    ...{ customer, client_reference_id: null, created: unix, currency: 'usd', amount_total: cents },
    line_items: { ...PACK_LINES, data: [{ ...line, amount_total: cents }] },
    payment_status: cents === 0 ? 'no_payment_required' : 'paid',
    payment_intent: cents === 0 ? null : payment(customer, cents),
    ...members,
  });
}

/** A paid invoice whose one line is the pack. */
function invoiceOf(customer: string, cents: number, paymentIntent: string | null): Thing {
  const invoice = bench.stripe.put({
    id: bench.stripe.newId('in'),
    object: 'invoice',
    ...{ customer, status: 'paid', number: 'D-1', currency: 'usd', created: unix, parent: null },
    amount_paid: paymentIntent === null ? 0 : cents,
    amount_remaining: 0,
    attempt_count: 1,
    status_transitions: { paid_at: unix, finalized_at: unix },
    lines: {
      object: 'list',
      has_more: false,
      data: [
        {
          ...{ id: 'il_1', object: 'line_item', description: 'Driftstack trial pack', amount: 299 },
          ...{ quantity: 1, taxes: [], discount_amounts: [{ amount: 299 - cents, discount: 'di_1' }] },
          parent: { type: 'invoice_item_details', invoice_item_details: { invoice_item: 'ii_1' } },
          pricing: { price_details: { price: 'price_driftstack_trial_pack', product: 'prod_1' } },
        },
      ],
    },
  });
  if (paymentIntent !== null) {
    bench.stripe.put({
      ...{ id: bench.stripe.newId('inpay'), object: 'invoice_payment', invoice: invoice.id },
      payment: { type: 'payment_intent', payment_intent: paymentIntent },
    });
  }
  return invoice;
}

describe('a trial pack with a coupon', () => {
  it('that makes it cheaper is a whole pack; a refund of half of the price takes half of the credit', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const session = sessionOf(customer, 150);
    await tell('checkout.session.completed', session);
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
    const intent = bench.stripe.all('payment_intent').find(({ id }) => id === session['payment_intent']);
    const charge = { ...(intent?.['latest_charge'] as object), amount_refunded: 75 };
    bench.stripe.change(String(session['payment_intent']), { latest_charge: charge });
    const told = { id: 'ch_told', object: 'charge', customer, payment_intent: session['payment_intent'] };
    await tell('charge.refunded', bench.stripe.put(told));
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 29_900 });
    expect(kinds).toEqual([]);
  });

  it('that makes it free is granted once, when Checkout is completed and not before', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const session = sessionOf(customer, 0, { status: 'open' });
    await synchronise(bench, accountId, { kind: 'checkout_session', sessionId: session.id });
    expect(await packOf(accountId)).toBeNull();
    await tell('checkout.session.completed', bench.stripe.change(session.id, { status: 'complete' }));
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
    await tell('checkout.session.completed', sessionOf(customer, 0));
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await count(accountId, 'trial_pack.redeemed')).toBe(1);
    expect(refunds()).toEqual([]);
  });
});

describe('a session of which Stripe makes an invoice', () => {
  it.each([299, 0])('is one purchase of %i cents, whichever of the two is heard of first', async (cents) => {
    for (const order of [0, 1]) {
      const { accountId, customer } = await addCustomer(bench);
      const session = sessionOf(customer, cents);
      const paymentIntent = cents === 0 ? null : String(session['payment_intent']);
      const invoice = invoiceOf(customer, cents, paymentIntent);
      bench.stripe.change(session.id, { invoice: invoice.id });
      const news = [
        ['checkout.session.completed', session],
        ['invoice.paid', invoice],
      ] as const;
      for (const [type, object] of order === 0 ? news : news.toReversed()) await tell(type, object);
      await reconcile(bench, accountId, { by: 'reconciler' });
      expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
      expect(await count(accountId, 'trial_pack.duplicate_refunded')).toBe(0);
      expect(await count(accountId, 'trial_pack_ready')).toBe(1);
    }
    expect(refunds()).toEqual([]);
    expect(kinds).toEqual([]);
  });
});

it('a payment link’s pack whose bank did not pay is told of, and nothing is granted', async () => {
  const { accountId, customer } = await addCustomer(bench);
  const payment_intent = payment(customer, 299, 'requires_payment_method');
  const session = sessionOf(customer, 299, { payment_status: 'unpaid', payment_intent });
  await tell('checkout.session.async_payment_failed', session);
  expect(await packOf(accountId)).toBeNull();
  expect(await count(accountId, 'trial_pack_payment_failed')).toBe(1);
  expect(kinds).toEqual([]);
});

it('a second pack whose refund Stripe refuses is given back by a person, who is told until it has been', async () => {
  const { accountId, customer } = await addCustomer(bench);
  await tell('checkout.session.completed', sessionOf(customer, 299));
  const second = sessionOf(customer, 299);
  const error = {
    type: 'invalid_request_error',
    code: 'balance_insufficient',
    message: 'Insufficient funds.',
  };
  bench.stripe.interfere(({ path }) =>
    path === '/v1/refunds' ? { kind: 'answer', status: 400, body: JSON.stringify({ error }) } : undefined,
  );
  const earlier = refunds().length;
  await tell('checkout.session.completed', second);
  bench.stripe.interfere(() => undefined);
  expect(refunds()).toHaveLength(earlier);
  expect(kinds).toEqual(['duplicate_trial_pack']);
  const told = await em().find(AuditEntry, { accountId, action: 'payment.unrecognised' });
  expect(told.map(({ targetResourceId, payload }) => [targetResourceId, payload['reason']])).toEqual([
    [second.id, 'second_trial_pack'],
  ]);
  expect(told[0]?.payload).toMatchObject({ amount_cents: 299 });
  // Nobody is told that it has been given back, and no refund follows behind a person's back.
  expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(0);
  await reconcile(bench, accountId, { by: 'reconciler' });
  expect(refunds()).toHaveLength(earlier);
  expect(kinds).toEqual(['duplicate_trial_pack', 'duplicate_trial_pack']);
});

it('a second pack that was paid for outside of Stripe is given back by a person, who is told once', async () => {
  const { accountId, customer } = await addCustomer(bench);
  await tell('invoice.paid', invoiceOf(customer, 299, null));
  expect(await packOf(accountId)).toMatchObject({ state: 'active' });
  const second = invoiceOf(customer, 299, null);
  for (let n = 0; n < 2; n++) await tell('invoice.paid', second);
  expect(kinds).toEqual(['duplicate_trial_pack']);
  const told = await em().find(AuditEntry, { accountId, action: 'payment.unrecognised' });
  expect(told.map(({ targetResourceId, payload }) => [targetResourceId, payload['reason']])).toEqual([
    [second.id, 'second_trial_pack'],
  ]);
  // Nothing says that money went back, because none did.
  expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(0);
  expect(refunds()).toEqual([]);
});

it('a price that lost its key while our own session was open is the pack’s, because we sold it as that', async () => {
  const { accountId, customer } = await addCustomer(bench);
  const attemptId = '01890a5d-ac96-774b-bcce-b302099a8057';
  const times = { expiresAt: NOW, createdAt: NOW, updatedAt: NOW };
  await bench.db.pool.query(
    `insert into checkout_attempt (id, account_id, kind, state, params, params_hash, expires_at, created_at, updated_at)
     values ($1, $2, 'trial_pack', 'open', $3, '\\x00', $4, $4, $4)`,
    [attemptId, accountId, { line_items: [{ price: 'price_once', quantity: 1 }] }, times.createdAt],
  );
  bench.stripe.put({ id: 'price_once', object: 'price', lookup_key: null, product: 'prod_1', metadata: {} });
  const [line] = PACK_LINES.data;
  const price = { id: 'price_once', object: 'price', lookup_key: null, product: 'prod_1' };
  const lines = { ...PACK_LINES, data: [{ ...line, price }] };
  const ours = { driftstack_attempt_id: attemptId, driftstack_kind: 'trial_pack' };
  const session = sessionOf(customer, 299, { line_items: lines, metadata: ours });
  await tell('checkout.session.completed', session);
  expect(await packOf(accountId)).toMatchObject({ state: 'active' });
  // And from now on whoever sells it.
  const other = await addCustomer(bench);
  await tell('checkout.session.completed', sessionOf(other.customer, 299, { line_items: lines }));
  expect(await packOf(other.accountId)).toMatchObject({ state: 'active' });
});

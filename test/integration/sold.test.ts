import type Stripe from 'stripe';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCustomer } from '../../server/billing/customer.ts';
import { Account } from '../../server/database/entities/account.ts';
import { TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import type { Alarm } from '../../server/stripe/deps.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { accountsAfter } from '../../server/stripe/repair/sweep.ts';
import { formatId } from '../../shared/ids.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { addAccount } from '../support/stripe.ts';

let bench: LocalBench;
const alarms: Alarm[] = [];
beforeAll(async () => {
  bench = await openLocalBench((alarm) => void alarms.push(alarm));
});
beforeEach(() => void alarms.splice(0));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const sdk = () => bench.gateway.sdk;
const packPrice = () => bench.gateway.priceId('driftstack_trial_pack');
const packOf = (accountId: string) => em().findOne(TrialPack, { accountId });
const entriesOf = (accountId: string, action: string) =>
  em().find(AuditEntry, { accountId, action }, { orderBy: { position: 'asc' } });
const mailsOf = async (accountId: string) =>
  (await em().find(Email, { accountId })).map(({ template }) => template).sort();
const kinds = () => alarms.map(({ kind }) => kind);
const chargeOf = async (paymentIntent: string) =>
  // Read with its charge expanded, which the type cannot know.
  (await bench.gateway.readPaymentIntent(paymentIntent))?.latest_charge as Stripe.Charge;

/** An account with a customer at Stripe that can pay, and nothing bought. */
async function addBuyer(): Promise<{ accountId: string; customer: string }> {
  const accountId = await addAccount(bench);
  const call = { accountId, keyId: uuidv7(new Date()), requestId: 'req_1', idempotencyKey: null };
  await createCustomer(bench, bench.gateway, call, await em().findOneOrFail(Account, accountId));
  const { stripeCustomerId } = await em().findOneOrFail(Account, accountId);
  const customer = String(stripeCustomerId);
  const card = await sdk().paymentMethods.attach('pm_card_visa', { customer });
  await sdk().customers.update(customer, { invoice_settings: { default_payment_method: card.id } });
  return { accountId, customer };
}

/** What a payment link makes when somebody opens it: a session with its price and nothing of ours written on it. */
async function payLink(
  given: Partial<Stripe.Checkout.SessionCreateParams> & { price?: string; quantity?: number },
): Promise<Stripe.Checkout.Session> {
  const { price = await packPrice(), quantity = 1, ...rest } = given;
  const session = await sdk().checkout.sessions.create({
    mode: 'payment',
    line_items: [{ price, quantity }],
    success_url: 'https://your.app/thanks',
    ...rest,
  });
  await bench.pay(session.id);
  return await sdk().checkout.sessions.retrieve(session.id);
}

/** What staff does in the Dashboard: an invoice with these items, charged to the customer's card. */
async function invoice(
  customer: string,
  ...items: Omit<Stripe.InvoiceItemCreateParams, 'customer' | 'invoice'>[]
): Promise<{ id: string; paymentIntent: string }> {
  const draft = await sdk().invoices.create({ customer, collection_method: 'charge_automatically' });
  for (const item of items) await sdk().invoiceItems.create({ customer, invoice: draft.id, ...item });
  await sdk().invoices.finalizeInvoice(draft.id);
  await sdk().invoices.pay(draft.id);
  const { data } = await sdk().invoicePayments.list({ invoice: draft.id });
  return { id: draft.id, paymentIntent: String(data[0]?.payment.payment_intent) };
}

const aPack = async () => ({ pricing: { price: await packPrice() } });

describe('the trial pack, whoever sells it', () => {
  it('by a payment link is granted once, and a second one is given back', async () => {
    const { accountId, customer } = await addBuyer();
    const first = await payLink({ customer });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active', stripeSessionId: first.id });
    expect(await mailsOf(accountId)).toEqual(['trial_pack_ready']);

    const second = await payLink({ customer, client_reference_id: 'spring-campaign' });
    await bench.catchUp();
    const refunded = await chargeOf(String(second.payment_intent));
    expect(refunded).toMatchObject({ amount: 299, amount_refunded: 299 });
    expect(await chargeOf(String(first.payment_intent))).toMatchObject({ amount_refunded: 0 });
    expect(await packOf(accountId)).toMatchObject({ stripeSessionId: first.id, remainingSeconds: 59_800 });
    expect(await mailsOf(accountId)).toEqual(['duplicate_purchase_refunded', 'trial_pack_ready']);
    expect(kinds()).toEqual(['duplicate_trial_pack']);
  });

  it('by an invoice of staff is granted once; refund and dispute reach it', async () => {
    const { accountId, customer } = await addBuyer();
    const { id, paymentIntent } = await invoice(customer, await aPack());
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active', stripeSessionId: id, paymentIntent });
    expect(await mailsOf(accountId)).toEqual(['payment_receipt', 'trial_pack_ready']);
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await entriesOf(accountId, 'operator.reconciled')).toEqual([]);

    await bench.hook(`/charges/${(await chargeOf(paymentIntent)).id}/dispute`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'suspended' });
    const [dispute] = await bench.gateway.listDisputes(paymentIntent);
    await bench.hook(`/disputes/${dispute?.id}/close`, { outcome: 'won' });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active' });
    expect(kinds()).toEqual([]);
  });

  it('by a second invoice is given back, and the first one stays', async () => {
    const { accountId, customer } = await addBuyer();
    const first = await invoice(customer, await aPack());
    await bench.catchUp();
    const second = await invoice(customer, await aPack());
    for (let n = 0; n < 2; n++) await bench.catchUp();
    expect(await chargeOf(second.paymentIntent)).toMatchObject({ amount: 299, amount_refunded: 299 });
    expect(await chargeOf(first.paymentIntent)).toMatchObject({ amount_refunded: 0 });
    expect(await packOf(accountId)).toMatchObject({ stripeSessionId: first.id, state: 'active' });
    expect(await entriesOf(accountId, 'trial_pack.duplicate_refunded')).toHaveLength(1);
    expect(alarms).toMatchObject([{ kind: 'duplicate_trial_pack', details: { paid_in: second.id } }]);
    await bench.gateway.refund(first.paymentIntent, `refund:${first.id}`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked' });
  });

  it('beside the first invoice of a subscription is granted, and only a second one is given back', async () => {
    const { accountId, customer } = await addBuyer();
    const plan = await bench.gateway.priceId('driftstack_api_builder_monthly');
    const line_items = [
      { price: plan, quantity: 1 },
      { price: await packPrice(), quantity: 1 },
    ];
    const first = await payLink({ customer });
    await bench.catchUp();
    const both = await payLink({ customer, mode: 'subscription', line_items });
    await bench.catchUp();
    await bench.catchUp();
    const { data } = await sdk().invoicePayments.list({ invoice: String(both.invoice) });
    const charge = await chargeOf(String(data[0]?.payment.payment_intent));
    expect(charge).toMatchObject({ amount: 9900 + 299, amount_refunded: 299 });
    expect(await packOf(accountId)).toMatchObject({ stripeSessionId: first.id, state: 'active' });
    alarms.splice(0);
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(kinds()).toEqual([]);

    const other = await addBuyer();
    const alone = await payLink({ customer: other.customer, mode: 'subscription', line_items });
    await bench.catchUp();
    expect(await packOf(other.accountId)).toMatchObject({
      state: 'active',
      stripeSessionId: String(alone.invoice),
    });
    expect(kinds()).toEqual([]);
  });

  it('in a payment for other things as well keeps its credit when those are given back, and a person is told', async () => {
    const { accountId, customer } = await addBuyer();
    const { paymentIntent } = await invoice(customer, await aPack(), {
      ...{ amount: 5000, currency: 'usd', description: 'An hour of advice' },
    });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active' });
    expect(kinds()).toEqual(['unrecognised_payment']);
    await sdk().refunds.create({ payment_intent: paymentIntent, amount: 5000 });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
    expect(kinds()).toEqual(['unrecognised_payment', 'unrecognised_payment']);
    const [, told] = await entriesOf(accountId, 'payment.unrecognised');
    expect(told?.payload).toMatchObject({ reason: 'refunded_in_part', amount_cents: 5000 });
    await sdk().refunds.create({ payment_intent: paymentIntent });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
  });

  it('twice in one purchase is one pack, and the other is given back, once', async () => {
    const { accountId, customer } = await addBuyer();
    const session = await payLink({ customer, quantity: 2 });
    for (let n = 0; n < 3; n++) await bench.catchUp();
    await reconcile(bench, accountId, { by: 'reconciler' });
    const charge = await chargeOf(String(session.payment_intent));
    expect(charge).toMatchObject({ amount: 598, amount_refunded: 299 });
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
    expect(await entriesOf(accountId, 'trial_pack.duplicate_refunded')).toHaveLength(1);
    await bench.gateway.refund(String(session.payment_intent), `rest:${session.id}`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked' });
  });

  it('at another price or in another currency of its product is the same pack', async () => {
    for (const [currency, unit_amount] of [
      ['eur', 279],
      ['usd', 199],
    ] as const) {
      const { accountId, customer } = await addBuyer();
      const price = await sdk().prices.create({ product: 'driftstack_trial_pack', currency, unit_amount });
      await payLink({ customer, price: price.id });
      await bench.catchUp();
      expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
      const [mail] = await em().find(Email, { accountId, template: 'trial_pack_ready' });
      expect(mail?.data).toMatchObject({ amountCents: unit_amount, currency });
    }
  });

  it('of which no event ever arrives is found by the comparison, sold by link or by invoice', async () => {
    for (const sell of [payLink, async ({ customer = '' }) => await invoice(customer, await aPack())]) {
      const { accountId, customer } = await addBuyer();
      await sell({ customer });
      await reconcile(bench, accountId, { by: 'reconciler' });
      expect(await packOf(accountId)).toMatchObject({ state: 'active' });
      await bench.catchUp();
      expect(await entriesOf(accountId, 'trial_pack.redeemed')).toHaveLength(1);
      expect(await entriesOf(accountId, 'trial_pack.duplicate_refunded')).toEqual([]);
    }
  });
});

describe('a price of the operator’s own', () => {
  it('that had the lookup key stays the pack’s when the key is moved', async () => {
    const product = await sdk().products.create({ name: 'Try it' });
    const standard = await packPrice();
    const own = { product: product.id, currency: 'usd', unit_amount: 299 };
    const price = await sdk().prices.create({
      ...{ ...own, lookup_key: 'driftstack_trial_pack', transfer_lookup_key: true },
    });
    const one = await addBuyer();
    await payLink({ customer: one.customer, price: price.id });
    await bench.catchUp();
    await sdk().prices.update(standard, { lookup_key: 'driftstack_trial_pack', transfer_lookup_key: true });
    for (const sell of ['link', 'invoice']) {
      const { accountId, customer } = await addBuyer();
      if (sell === 'link') await payLink({ customer, price: price.id });
      else await invoice(customer, { pricing: { price: price.id } });
      await bench.catchUp();
      expect(await packOf(accountId), sell).toMatchObject({ state: 'active' });
    }
    expect(await packOf(one.accountId)).toMatchObject({ state: 'active' });
    expect(kinds()).toEqual([]);
  });
});

describe('what was paid for and is not understood', () => {
  const consulting = async () => {
    const product = await sdk().products.create({ name: 'An hour of advice' });
    return await sdk().prices.create({ product: product.id, currency: 'usd', unit_amount: 15_000 });
  };

  it('by a customer of ours is an alarm and an audit entry, once, and nothing is granted', async () => {
    const { accountId, customer } = await addBuyer();
    const { id: price } = await consulting();
    const session = await payLink({
      ...{ customer, price },
      // What is written onto it makes no pack of it.
      metadata: { driftstack_kind: 'trial_pack', driftstack_account_id: formatId('acc', accountId) },
    });
    const { id } = await invoice(customer, { pricing: { price } });
    for (let n = 0; n < 2; n++) {
      await bench.catchUp();
      await reconcile(bench, accountId, { by: 'reconciler' });
      await em().nativeUpdate(StripeEvent, { objectId: { $in: [id, session.id] } }, { state: 'received' });
    }
    const told = await entriesOf(accountId, 'payment.unrecognised');
    const amounts = told.map(({ targetResourceId, payload }) => [targetResourceId, payload['amount_cents']]);
    // Told in one second, so in whichever order.
    expect(amounts.sort()).toEqual([
      [session.id, 15_000],
      [id, 15_000],
    ]);
    expect(kinds()).toEqual(['unrecognised_payment', 'unrecognised_payment']);
    expect(await packOf(accountId)).toBeNull();
  });

  it('is a subscription of an unknown price on a customer of ours as well, and none that we understand', async () => {
    const { accountId, customer } = await addBuyer();
    const product = await sdk().products.create({ name: 'Support' });
    const price = await sdk().prices.create({
      ...{ product: product.id, currency: 'usd', unit_amount: 900, recurring: { interval: 'month' } },
    });
    await sdk().subscriptions.create({ customer, items: [{ price: price.id }] });
    await bench.catchUp();
    expect(kinds()).toEqual(['unrecognised_payment']);
    const plan = await bench.gateway.priceId('driftstack_api_builder_monthly');
    await sdk().subscriptions.create({ customer, items: [{ price: plan }, { price: price.id }] });
    await bench.catchUp();
    expect(kinds()).toEqual(['unrecognised_payment']);
    expect(await entriesOf(accountId, 'payment.unrecognised')).toHaveLength(1);
  });

  it('is a sale of ours to a customer whom nobody has, by payment link, as a guest or in the Dashboard', async () => {
    const accountId = await addAccount(bench);
    const link = await payLink({ customer_creation: 'always', customer_email: 'ada@example.com' });
    const guest = await payLink({ client_reference_id: formatId('acc', accountId) });
    const plan = await bench.gateway.priceId('driftstack_api_builder_monthly');
    const pm = await sdk().customers.create({ payment_method: 'pm_card_visa' });
    const [card] = (await sdk().customers.listPaymentMethods(pm.id)).data;
    await sdk().subscriptions.create({
      ...{ customer: pm.id, items: [{ price: plan }], default_payment_method: card?.id ?? '' },
    });
    await bench.catchUp();
    expect(kinds()).toEqual(['unrecognised_payment', 'unrecognised_payment', 'unrecognised_payment']);
    const details = alarms.map((alarm) => alarm.details);
    expect(details).toContainEqual(
      expect.objectContaining({ paid_in: link.id, price_ids: [await packPrice()] }),
    );
    // Who opened a link wrote the reference: it grants nothing, and tells a person whom to ask.
    expect(details).toContainEqual(
      expect.objectContaining({ paid_in: guest.id, names: formatId('acc', accountId) }),
    );
    expect(details).toContainEqual(expect.objectContaining({ stripe_customer_id: pm.id, price_ids: [plan] }));
    expect(await packOf(accountId)).toBeNull();
    const [event] = await em().find(StripeEvent, { objectId: link.id });
    expect(event).toMatchObject({ state: 'ignored', error: expect.stringContaining(await packPrice()) });
  });

  describe('without session and without invoice', () => {
    /** What staff takes in the Dashboard, or a program by the API: money, and nothing that says for what. */
    const take = async (customer: string, params: Partial<Stripe.PaymentIntentCreateParams> = {}) => {
      const { data } = await sdk().customers.listPaymentMethods(customer);
      return await sdk().paymentIntents.create({
        ...{ customer, amount: 12_000, currency: 'usd', payment_method: data[0]?.id ?? '' },
        ...{ confirm: true, off_session: true, ...params },
      });
    };
    const nights = async (accountId: string, count = 2) => {
      await bench.catchUp();
      for (let n = 0; n < count; n++) await reconcile(bench, accountId, { by: 'reconciler' });
    };
    const told = async (accountId: string) =>
      (await entriesOf(accountId, 'payment.unrecognised')).map(({ targetResourceId, payload }) => [
        ...[targetResourceId, payload['reason'], payload['amount_cents'], payload['refunded_cents']],
      ]);

    it('is seen by the night, told once and written down, whatever is written on it', async () => {
      const { accountId, customer } = await addBuyer();
      const plain = await take(customer);
      const named = await take(customer, {
        ...{ amount: 299, description: 'Driftstack trial pack' },
        metadata: { driftstack_kind: 'trial_pack', driftstack_account_id: formatId('acc', accountId) },
      });
      await nights(accountId, 3);
      expect((await told(accountId)).sort()).toEqual(
        [
          [plain.id, 'nothing_sold', 12_000, undefined],
          [named.id, 'nothing_sold', 299, undefined],
        ].sort(),
      );
      expect(kinds()).toEqual(['unrecognised_payment', 'unrecognised_payment']);
      expect(await packOf(accountId)).toBeNull();
      expect(await mailsOf(accountId)).toEqual([]);
    });

    it('is told with what was given back of it, and not at all where that was all', async () => {
      const { accountId, customer } = await addBuyer();
      const [part, all] = [await take(customer), await take(customer)];
      await sdk().refunds.create({ payment_intent: part.id, amount: 2_000 });
      await sdk().refunds.create({ payment_intent: all.id });
      await nights(accountId);
      expect(await told(accountId)).toEqual([[part.id, 'nothing_sold', 12_000, 2_000]]);
      await sdk().refunds.create({ payment_intent: part.id });
      await nights(accountId);
      expect(kinds()).toEqual(['unrecognised_payment']);
    });

    it('is none where it was declined or never confirmed', async () => {
      const { accountId, customer } = await addBuyer();
      await sdk().paymentIntents.create({ customer, amount: 12_000, currency: 'usd' });
      await sdk().paymentMethods.attach('pm_card_chargeCustomerFail', { customer });
      await expect(take(customer)).rejects.toThrow('declined');
      await nights(accountId);
      expect(kinds()).toEqual([]);
    });

    it('is none where it was made before the account was', async () => {
      const { accountId, customer } = await addBuyer();
      const { created } = await take(customer);
      const createdAt = new Date((created + 3_600) * 1_000);
      await em().nativeUpdate(Account, accountId, { createdAt });
      await nights(accountId);
      expect(kinds()).toEqual([]);
      await em().nativeUpdate(Account, accountId, { createdAt: new Date(created * 1_000) });
      await nights(accountId);
      expect(kinds()).toEqual(['unrecognised_payment']);
    });

    it('is looked for until a month after the subscription has ended', async () => {
      const { accountId, customer } = await addBuyer();
      const plan = await bench.gateway.priceId('driftstack_api_builder_monthly');
      const { id } = await sdk().subscriptions.create({ customer, items: [{ price: plan }] });
      const { ended_at } = await sdk().subscriptions.cancel(id);
      await bench.catchUp();
      const asked = async (days: number) => {
        const now = new Date((Number(ended_at) + days * 86_400) * 1_000);
        return (await accountsAfter(bench.db, { after: null, now })).includes(accountId);
      };
      expect([await asked(1), await asked(29), await asked(31)]).toEqual([true, true, false]);
    });

    it('is none where session and invoice are older than what the night lists', async () => {
      const { accountId, customer } = await addBuyer();
      await payLink({ customer });
      await invoice(customer, { amount: 5_000, currency: 'usd', description: 'An hour of advice' });
      await bench.catchUp();
      alarms.splice(0);
      const older = { listInvoicesPaidBy: async () => [], listCompletedSessions: async () => [] };
      const within = (ms: number) => ({ ...bench.gateway.within(ms), ...older });
      await reconcile({ ...bench, gateway: { ...bench.gateway, within } }, accountId, { by: 'reconciler' });
      expect(kinds()).toEqual([]);
    });

    it('is none of those that paid for what we know, which cost the night one call', async () => {
      const { accountId, customer } = await addBuyer();
      await payLink({ customer });
      await invoice(customer, await aPack());
      const plan = await bench.gateway.priceId('driftstack_api_builder_monthly');
      await payLink({ customer, mode: 'subscription', line_items: [{ price: plan, quantity: 1 }] });
      await bench.catchUp();
      await bench.catchUp();
      alarms.splice(0);
      const asked: string[] = [];
      const gateway = {
        ...bench.gateway,
        within: (ms: number) => {
          const calls = bench.gateway.within(ms);
          const count = (name: 'listCharges' | 'findInvoiceOfPayment', id: string) =>
            void asked.push(name, id);
          return {
            ...calls,
            listCharges: (id: string, sinceS: number) => {
              count('listCharges', id);
              return calls.listCharges(id, sinceS);
            },
            findInvoiceOfPayment: (id: string) => {
              count('findInvoiceOfPayment', id);
              return calls.findInvoiceOfPayment(id);
            },
          };
        },
      };
      await reconcile({ ...bench, gateway }, accountId, { by: 'reconciler' });
      expect(asked).toEqual(['listCharges', customer]);
      expect(kinds()).toEqual([]);
      const { id } = await take(customer);
      asked.splice(0);
      // One that is for nothing is asked about in the night that tells of it, and in no other.
      for (let n = 0; n < 2; n++) await reconcile({ ...bench, gateway }, accountId, { by: 'reconciler' });
      expect(asked).toEqual(['listCharges', customer, 'findInvoiceOfPayment', id, 'listCharges', customer]);
    });
  });

  it('is none of our business where somebody else’s customer bought somebody else’s thing', async () => {
    const { id: price } = await consulting();
    await payLink({ price, customer_creation: 'always' });
    await bench.catchUp();
    expect(kinds()).toEqual([]);
  });
});

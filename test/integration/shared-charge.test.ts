import type Stripe from 'stripe';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCustomer } from '../../server/billing/customer.ts';
import { Account } from '../../server/database/entities/account.ts';
import { TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import type { StripeGateway } from '../../server/stripe/api/gateway.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { addAccount } from '../support/stripe.ts';

let bench: LocalBench;
const kinds: string[] = [];
beforeAll(async () => {
  bench = await openLocalBench(({ kind }) => void kinds.push(kind));
});
beforeEach(() => void kinds.splice(0));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const sdk = () => bench.gateway.sdk;
const priceOf = (lookupKey: string) => bench.gateway.priceId(lookupKey);
const entriesOf = async (accountId: string, action: string) =>
  (await em().find(AuditEntry, { accountId, action }, { orderBy: { position: 'asc' } })).map(
    ({ payload }) => payload,
  );
const refundMails = async (accountId: string) =>
  (await em().find(Email, { accountId, template: 'duplicate_purchase_refunded' })).map(({ data }) => data);

/** What Stripe's catalogue says: the pack, and a month of the lowest plan. */
const PACK = 299;
const BUILDER = 9_900;

async function addBuyer() {
  const accountId = await addAccount(bench);
  const call = { accountId, keyId: uuidv7(new Date()), requestId: 'req_1', idempotencyKey: null };
  await createCustomer(bench, bench.gateway, call, await em().findOneOrFail(Account, accountId));
  const { stripeCustomerId } = await em().findOneOrFail(Account, accountId);
  const customer = String(stripeCustomerId);
  const card = await sdk().paymentMethods.attach('pm_card_visa', { customer });
  await sdk().customers.update(customer, { invoice_settings: { default_payment_method: card.id } });
  return { accountId, customer };
}

async function buy(customer: string, mode: 'payment' | 'subscription', ...lookupKeys: string[]) {
  const line_items = [];
  for (const key of lookupKeys) line_items.push({ price: await priceOf(key), quantity: 1 });
  const { id } = await sdk().checkout.sessions.create({
    ...{ mode, customer, line_items, success_url: 'https://your.app/thanks' },
  });
  await bench.pay(id);
  return await sdk().checkout.sessions.retrieve(id);
}

const buyPack = (customer: string) => buy(customer, 'payment', 'driftstack_trial_pack');

/** A payment link that sells the lowest plan and the pack: one first invoice, and one charge for both. */
async function buyBoth(customer: string) {
  const session = await buy(
    customer,
    'subscription',
    'driftstack_api_builder_monthly',
    'driftstack_trial_pack',
  );
  const [paid] = (await sdk().invoicePayments.list({ invoice: String(session.invoice) })).data;
  const paymentIntent = String(paid?.payment.payment_intent);
  expect(await chargeOf(paymentIntent)).toMatchObject({ amount: BUILDER + PACK, amount_refunded: 0 });
  return { paymentIntent, subscription: String(session.subscription) };
}

const chargeOf = async (paymentIntent: string) =>
  // Read with its charge expanded, which the type cannot know.
  (await bench.gateway.readPaymentIntent(paymentIntent))?.latest_charge as Stripe.Charge;
const refundedOf = async (paymentIntent: string) => (await chargeOf(paymentIntent)).amount_refunded;

/** Staff gives a part of it back in the Dashboard. */
const byHand = (paymentIntent: string, amount: number) =>
  sdk().refunds.create({ payment_intent: paymentIntent, amount });

async function better(customer: string) {
  return await sdk().subscriptions.create({
    customer,
    items: [{ price: await priceOf('driftstack_api_scale_monthly') }],
  });
}

/** What is owed for the lower one: its month, by the seconds in which the better one was there as well. */
async function owedFor(subscription: string, beside: Stripe.Subscription): Promise<number> {
  const { items } = await sdk().subscriptions.retrieve(subscription);
  const { current_period_start: start = 0, current_period_end: end = 0 } = items.data[0] ?? {};
  return Math.floor((BUILDER * (end - Math.max(start, beside.start_date))) / (end - start));
}

/** A night whose process dies when Stripe has given back, and before that is written down. */
async function dyingNight(accountId: string) {
  const gateway: StripeGateway = {
    ...bench.gateway,
    within(...terms) {
      const calls = bench.gateway.within(...terms);
      return {
        ...calls,
        async refund(...wanted) {
          await calls.refund(...wanted);
          throw new Error('the process died');
        },
      };
    },
  };
  await expect(reconcile({ ...bench, gateway }, accountId, { by: 'reconciler' })).rejects.toThrow(
    'the process died',
  );
}

async function nights(accountId: string, count = 2) {
  await bench.catchUp();
  for (let n = 0; n < count; n++) await reconcile(bench, accountId, { by: 'reconciler' });
}

const ALL_BUT_SUBSCRIPTIONS = [
  'checkout.session.completed',
  'invoice.paid',
  'invoice.payment_succeeded',
  'charge.refunded',
  'refund.created',
  'refund.updated',
];

describe('a second subscription and a second pack on one charge', () => {
  it('are both given back where the pack was first', async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK);
    const owed = await owedFor(subscription, await better(customer));
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK + owed);
    expect(await entriesOf(accountId, 'subscription.duplicate_canceled')).toMatchObject([
      { refunded_cents: owed },
    ]);
    expect(await refundMails(accountId)).toEqual([
      expect.objectContaining({ purchase: 'trial_pack', amountCents: PACK }),
      expect.objectContaining({ purchase: 'subscription', amountCents: owed }),
    ]);
    expect(kinds).toEqual(['duplicate_trial_pack', 'duplicate_subscription']);
  });

  it('are both given back where the subscription was first', async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    const first = await better(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    const owed = await owedFor(subscription, first);
    await bench.catchUp(ALL_BUT_SUBSCRIPTIONS);
    expect(await refundedOf(paymentIntent)).toBe(owed);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(owed + PACK);
    expect(await refundMails(accountId)).toEqual([
      expect.objectContaining({ purchase: 'subscription', amountCents: owed }),
      expect.objectContaining({ purchase: 'trial_pack', amountCents: PACK }),
    ]);
  });

  it('are both given back where both are heard of at once', async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    const first = await better(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe((await owedFor(subscription, first)) + PACK);
    expect(await entriesOf(accountId, 'payment.unrecognised')).toEqual([]);
  });

  it.each([PACK, 4_000])('count %i cents that staff gave back between the two once', async (amount) => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await nights(accountId);
    await byHand(paymentIntent, amount);
    await nights(accountId);
    const owed = await owedFor(subscription, await better(customer));
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK + owed);
  });

  it.each([PACK, 4_000])('count %i cents that staff gave back before us once', async (amount) => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    const first = await better(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await byHand(paymentIntent, amount);
    await bench.catchUp(ALL_BUT_SUBSCRIPTIONS);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK + (await owedFor(subscription, first)));
  });
});

describe('a second subscription and a second pack on one charge, where a process dies in between', () => {
  it("are both given back where the pack's was sent, and the subscription was ended before it was tried again", async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await dyingNight(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK);
    expect(await refundMails(accountId)).toEqual([]);
    const owed = await owedFor(subscription, await better(customer));
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(PACK + owed);
  });

  it("are both given back where the subscription's was sent", async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    const first = await better(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    const owed = await owedFor(subscription, first);
    await dyingNight(accountId);
    expect(await refundedOf(paymentIntent)).toBe(owed);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(owed + PACK);
    expect(await refundMails(accountId)).toEqual([
      expect.objectContaining({ purchase: 'subscription', amountCents: owed }),
      expect.objectContaining({ purchase: 'trial_pack', amountCents: PACK }),
    ]);
  });

  it("are both given back where the subscription's was sent for a payment after its end", async () => {
    const { accountId, customer } = await addBuyer();
    await buyPack(customer);
    const first = await better(customer);
    await bench.catchUp();
    // On account: it lives before it is paid for.
    await sdk().invoiceItems.create({ customer, pricing: { price: await priceOf('driftstack_trial_pack') } });
    const { id: subscription, latest_invoice: invoice } = await sdk().subscriptions.create({
      customer,
      items: [{ price: await priceOf('driftstack_api_builder_monthly') }],
      collection_method: 'send_invoice',
      days_until_due: 30,
    });
    await nights(accountId);
    expect((await sdk().subscriptions.retrieve(subscription)).status).toBe('canceled');
    await sdk().invoices.pay(String(invoice));
    const [paid] = (await sdk().invoicePayments.list({ invoice: String(invoice) })).data;
    const paymentIntent = String(paid?.payment.payment_intent);
    expect(await chargeOf(paymentIntent)).toMatchObject({ amount: BUILDER + PACK, amount_refunded: 0 });
    const owed = await owedFor(subscription, first);
    await dyingNight(accountId);
    expect(await refundedOf(paymentIntent)).toBe(owed);
    await nights(accountId);
    expect(await refundedOf(paymentIntent)).toBe(owed + PACK);
  });
});

describe('a second subscription and the first pack on one charge', () => {
  it('leave the pack, and nobody is told of a refund of ours', async () => {
    const { accountId, customer } = await addBuyer();
    const first = await better(customer);
    await bench.catchUp();
    const { paymentIntent, subscription } = await buyBoth(customer);
    await nights(accountId);
    const owed = await owedFor(subscription, first);
    expect(await refundedOf(paymentIntent)).toBe(owed);
    expect(await em().findOne(TrialPack, { accountId })).toMatchObject({
      state: 'active',
      remainingSeconds: 59_800,
    });
    expect(await entriesOf(accountId, 'payment.unrecognised')).toEqual([]);
    expect(kinds).toEqual(['duplicate_subscription']);
  });
});

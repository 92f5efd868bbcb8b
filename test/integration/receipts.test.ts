import type Stripe from 'stripe';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { renderEmail } from '../../server/notify/render.ts';
import { processEvents } from '../support/processing.ts';
import { addCustomer, type Bench, deliver, openBench } from '../support/stripe.ts';
import { invoice, lines } from '../support/stripe-invoices.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterEach(() => bench.stripe.interfere(() => undefined));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();

/** Lets Stripe tell of a paid invoice; returns the receipt's rows as they are read, and the audit entry. */
async function paid(members: Partial<Stripe.Invoice>) {
  const { accountId, customer } = await addCustomer(bench);
  const one = invoice(bench, customer, members);
  expect((await processEvents(bench, [await deliver(bench, 'invoice.paid', one)])).size).toBe(0);
  const mails = await em().find(Email, { accountId });
  const [entry] = await em().find(AuditEntry, { accountId, action: 'invoice.paid' });
  const context = { links: () => false, billingUrl: null };
  const [mail] = mails;
  const text = mail ? (await renderEmail(mail.template, mail.data, context)).text : '';
  const rows = text.split('\n\n').find((part) => part.includes('\nPaid: ')) ?? '';
  return { accountId, invoice: one, mails, rows: rows.split('\n'), payload: entry?.payload };
}

const discount = (id: string, members: Partial<Stripe.Discount> = {}) =>
  ({
    id,
    object: 'discount',
    promotion_code: null,
    source: { type: 'coupon', coupon: null },
    ...members,
  }) as Stripe.Discount; // The rest of a discount is never read.

describe('a receipt', () => {
  it('of one line says what was paid', async () => {
    const { rows } = await paid({});
    expect(rows).toEqual(['Invoice: D-0001', 'API Builder: $99.00', 'Paid: $99.00']);
  });

  // amount_due: "if there is account credit that can be applied to the invoice"; the ledger is at zero afterwards.
  it('paid in part from a credit balance of $50 calls it that, and nothing tax', async () => {
    const { rows, payload } = await paid({
      starting_balance: -5_000,
      ending_balance: 0,
      amount_due: 4_900,
      amount_paid: 4_900,
    });
    expect(rows).toEqual([
      'Invoice: D-0001',
      'API Builder: $99.00',
      'Total: $99.00',
      'Paid from your credit balance: -$50.00',
      'Paid: $49.00',
    ]);
    expect(payload).toMatchObject({
      amount_cents: 4_900,
      total_cents: 9_900,
      tax_cents: 0,
      discount_cents: 0,
      balance_cents: -5_000,
    });
  });

  it('with some of the credit left says only what was used of it', async () => {
    const members = { starting_balance: -12_000, ending_balance: -4_000, total: 9_900 };
    const { rows } = await paid({ ...members, amount_due: 1_900, amount_paid: 1_900 });
    expect(rows).toContain('Paid from your credit balance: -$80.00');
  });

  // "If there is a positive starting_balance for the invoice (the customer owes money), the amount_due will also
  // take that into account."
  it('with something owed from before says so', async () => {
    const { rows } = await paid({
      starting_balance: 40,
      ending_balance: 0,
      amount_due: 9_940,
      amount_paid: 9_940,
    });
    expect(rows.slice(1)).toEqual([
      'API Builder: $99.00',
      'Total: $99.00',
      'Owed from before: $0.40',
      'Paid: $99.40',
    ]);
  });

  it('with a coupon of 20 percent names the discount by the code that was entered', async () => {
    const code = { id: 'promo_1', object: 'promotion_code', code: 'LAUNCH20' } as Stripe.PromotionCode;
    const { rows, payload } = await paid({
      total: 7_920,
      amount_due: 7_920,
      amount_paid: 7_920,
      total_discount_amounts: [{ amount: 1_980, discount: discount('di_1', { promotion_code: code }) }],
    });
    expect(rows).toEqual([
      'Invoice: D-0001',
      'API Builder: $99.00',
      'Discount (LAUNCH20): -$19.80',
      'Total: $79.20',
      'Paid: $79.20',
    ]);
    expect(payload).toMatchObject({ discount_cents: 1_980, tax_cents: 0, total_cents: 7_920 });
  });

  it('names each of several discounts, by its coupon or not at all', async () => {
    const coupon = { id: 'co_1', object: 'coupon', name: 'Friends' } as Stripe.Coupon;
    const { rows } = await paid({
      total: 7_000,
      amount_due: 7_000,
      amount_paid: 7_000,
      total_discount_amounts: [
        { amount: 1_900, discount: discount('di_1', { source: { type: 'coupon', coupon } }) },
        { amount: 1_000, discount: discount('di_2') },
      ],
    });
    expect(rows.slice(2, 4)).toEqual(['Discount (Friends): -$19.00', 'Discount: -$10.00']);
  });

  it('does without the names that Stripe will not show', async () => {
    const error = { type: 'invalid_request_error', code: 'property_not_expandable', message: 'no' };
    bench.stripe.interfere(({ path }) =>
      path.includes('total_discount_amounts')
        ? { kind: 'answer', status: 400, body: JSON.stringify({ error }) }
        : undefined,
    );
    const { rows } = await paid({
      total: 7_920,
      amount_due: 7_920,
      amount_paid: 7_920,
      total_discount_amounts: [{ amount: 1_980, discount: 'di_1' }],
    });
    expect(rows).toContain('Discount: -$19.80');
  });

  const tax = (amount: number, tax_behavior: 'exclusive' | 'inclusive'): Stripe.Invoice.TotalTax => ({
    amount,
    tax_behavior,
    tax_rate_details: null,
    taxability_reason: 'standard_rated',
    taxable_amount: 9_900,
    type: 'tax_rate_details',
  });

  it('adds the tax that comes on top', async () => {
    const { rows, payload } = await paid({
      total: 11_781,
      amount_due: 11_781,
      amount_paid: 11_781,
      currency: 'eur',
      total_taxes: [tax(1_500, 'exclusive'), tax(381, 'exclusive')],
    });
    expect(rows.slice(1)).toEqual(['API Builder: €99.00', 'Tax: €18.81', 'Total: €117.81', 'Paid: €117.81']);
    expect(payload).toMatchObject({ tax_cents: 1_881 });
  });

  it('does not add the tax that its lines include', async () => {
    const { rows, payload } = await paid({ total_taxes: [tax(1_581, 'inclusive')] });
    expect(rows.slice(1)).toEqual([
      'API Builder: $99.00',
      'Total: $99.00',
      'Tax included in the items: $15.81',
      'Paid: $99.00',
    ]);
    expect(payload).toMatchObject({ tax_cents: 1_581, total_cents: 9_900 });
  });

  it('tells credit grants, credit notes and shipping by their names', async () => {
    const { rows } = await paid({
      total: 8_900,
      amount_due: 7_900,
      amount_paid: 7_900,
      amount_shipping: 500,
      pre_payment_credit_notes_amount: 1_000,
      total_discount_amounts: [{ amount: 500, discount: 'di_1' }],
      total_pretax_credit_amounts: [
        { amount: 1_000, type: 'credit_balance_transaction', credit_balance_transaction: 'cbtxn_1' },
        { amount: 500, type: 'discount', discount: 'di_1' },
      ],
    });
    expect(rows.slice(1)).toEqual([
      'API Builder: $99.00',
      'Discount: -$5.00',
      'Credits applied: -$10.00',
      'Shipping: $5.00',
      'Total: $89.00',
      'Credit notes: -$10.00',
      'Paid: $79.00',
    ]);
  });

  it('lists the lines beyond the ten that Stripe puts into an invoice', async () => {
    const many = Array.from({ length: 23 }, (_, at) => ({ amount: 100 + at, description: `Session ${at}` }));
    // 23 times 100, and 0 + 1 + … + 22
    const total = 2_300 + 253;
    const { rows } = await paid({
      lines: lines(many),
      subtotal: total,
      total,
      amount_due: total,
      amount_paid: total,
    });
    expect(rows).toHaveLength(1 + 23 + 2);
    expect(rows.at(23)).toBe('Session 22: $1.22');
    expect(rows.slice(24)).toEqual(['Total: $25.53', 'Paid: $25.53']);
  });

  it('with more lines than can be read shows none of them', async () => {
    const many = Array.from({ length: 1_200 }, () => ({ amount: 10, description: 'Session' }));
    const members = { total: 12_000, amount_due: 12_000, amount_paid: 12_000 };
    const { rows } = await paid({ lines: lines(many), ...members });
    expect(rows).toEqual(['Invoice: D-0001', 'Paid: $120.00']);
  });

  it('gives no name to a remainder that none of Stripe’s figures explains', async () => {
    const { rows, payload } = await paid({ total: 9_000, amount_due: 9_000, amount_paid: 9_000 });
    expect(rows).toEqual(['Invoice: D-0001', 'Paid: $90.00']);
    expect(payload).toMatchObject({ total_cents: 9_000, tax_cents: 0, discount_cents: 0 });
    const unsettled = await paid({ amount_due: 9_000, amount_paid: 9_000 });
    expect(unsettled.rows).toEqual([
      'Invoice: D-0001',
      'API Builder: $99.00',
      'Total: $99.00',
      'Paid: $90.00',
    ]);
  });

  it.each([
    [
      'used of the credit is not what was not due',
      { ending_balance: -3_000, amount_due: 4_900, amount_paid: 4_900 },
    ],
    ['paid is not what was due', { ending_balance: 0, amount_due: 4_900, amount_paid: 5_100 }],
    ['there is no balance yet', { ending_balance: null, amount_due: 4_900, amount_paid: 4_900 }],
  ])('says nothing of a balance where what %s', async (_what, members) => {
    const { rows } = await paid({ starting_balance: -5_000, ...members });
    expect(rows.slice(1)).toEqual([
      'API Builder: $99.00',
      'Total: $99.00',
      `Paid: $${members.amount_paid / 100}.00`,
    ]);
  });

  it('is not written for what took no money', async () => {
    const { mails, payload } = await paid({ starting_balance: -9_900, amount_due: 0, amount_paid: 0 });
    expect(mails).toEqual([]);
    expect(payload).toMatchObject({ amount_cents: 0, total_cents: 9_900, balance_cents: -9_900 });
  });

  it('of what was paid outside of Stripe says in the audit log that it was', async () => {
    const { mails, payload } = await paid({ amount_paid_off_stripe: 9_900 });
    expect(mails).toHaveLength(1);
    expect(payload).toMatchObject({ amount_cents: 9_900, paid_off_stripe_cents: 9_900 });
    expect((await paid({ amount_paid_off_stripe: 0 })).payload).not.toHaveProperty('paid_off_stripe_cents');
  });

  it('heard after a refund is the same, once, of the day it was paid', async () => {
    const { accountId, invoice: one, mails } = await paid({ post_payment_credit_notes_amount: 9_900 });
    await processEvents(bench, [await deliver(bench, 'invoice.paid', one)]);
    expect(await em().count(Email, { accountId })).toBe(1);
    expect(mails[0]?.data).toMatchObject({ paidAt: '2026-05-10T12:00:00.000Z' });
  });
});

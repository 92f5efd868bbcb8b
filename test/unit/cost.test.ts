import fc from 'fast-check';
import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { bothSince, readCost } from '../../server/stripe/sync/second/cost.ts';

const DAY = 86_400;
const START = 1_777_593_600;
/** So many days after the subscription began. */
const on = (days: number) => START + days * DAY;

type Line = {
  amount: number;
  /** Days after the beginning. */
  from?: number;
  to?: number;
  discount?: number;
  taxOnTop?: number;
  taxWithin?: number;
  granted?: number;
  kind?: 'period' | 'proration' | 'old_proration' | 'one_off' | 'nameless';
};
type Invoice = { paid: number; creditNotes?: number; lines: Line[] | null };

/** Only the members that are read, hence the casts: the objects have some fifty more. */
function lineOf({ amount, from = 0, to = 30, kind = 'period', ...rest }: Line): Stripe.InvoiceLineItem {
  const { discount = 0, taxOnTop = 0, taxWithin = 0, granted = 0 } = rest;
  const item = { subscription: 'sub_1', proration: kind === 'proration' };
  const parent = {
    period: { subscription_item_details: item },
    proration: { subscription_item_details: item },
    old_proration: { invoice_item_details: { subscription: 'sub_1', proration: true } },
    one_off: { invoice_item_details: { subscription: 'sub_1', proration: false } },
    nameless: null,
  }[kind];
  return {
    amount,
    period: { start: on(from), end: on(to) },
    parent,
    subscription: null,
    discount_amounts: discount === 0 ? null : [{ amount: discount }],
    pretax_credit_amounts: [
      ...(discount === 0 ? [] : [{ type: 'discount', amount: discount }]),
      ...(granted === 0 ? [] : [{ type: 'credit_balance_transaction', amount: granted }]),
    ],
    taxes: [
      { tax_behavior: 'exclusive', amount: taxOnTop },
      { tax_behavior: 'inclusive', amount: taxWithin },
    ],
  } as unknown as Stripe.InvoiceLineItem;
}

type Subscription = { cents?: number | null; quantity?: number; currency?: string };

function costOf(invoices: Invoice[], days: number, subscription: Subscription = {}) {
  const { cents = 9_000, quantity = 1, currency = 'usd' } = subscription;
  const sub = {
    id: 'sub_1',
    currency,
    items: { data: [{ quantity, price: { unit_amount: cents, currency: 'usd' } }] },
  } as unknown as Stripe.Subscription;
  const made = invoices.map(({ paid, creditNotes = 0, lines }, index) => ({
    id: `in_${index}`,
    amount_paid: paid,
    post_payment_credit_notes_amount: creditNotes,
    lines,
  }));
  return readCost(
    {
      listPaidInvoices: async () => made as unknown as Stripe.Invoice[],
      readInvoiceLines: async ({ id }) =>
        made.find((invoice) => invoice.id === id)?.lines?.map(lineOf) ?? null,
    },
    sub,
    on(days),
  );
}

const whole = (paid: number, line: Partial<Line> = {}): Invoice => ({
  paid,
  lines: [{ amount: 9_000, ...line }],
});

describe('what a subscription has cost since a moment', () => {
  // Newest first. In a month of 30 days at 9,000, each day costs 300.
  it.each([
    ['all of its only period', [whole(9_000)], 0, [9_000]],
    ['two thirds of it', [whole(9_000)], 10, [6_000]],
    ['nothing of what was over by then', [whole(9_000)], 30, [0]],
    [
      'the present period, not the eleven before it',
      Array.from({ length: 12 }, (_, n) => whole(9_000, { from: 330 - 30 * n, to: 360 - 30 * n })),
      345,
      [4_500, ...Array<number>(11).fill(0)],
    ],
    ['what a discount left to pay', [whole(7_200, { discount: 1_800 })], 10, [4_800]],
    ['the tax on top of it', [whole(10_800, { taxOnTop: 1_800 })], 10, [7_200]],
    ['the tax within it once', [whole(9_000, { taxWithin: 1_500 })], 10, [6_000]],
    ['what a granted credit left to pay', [whole(6_000, { granted: 3_000 })], 10, [4_000]],
    ['its part of what a balance left to pay', [whole(3_000)], 10, [2_000]],
    ['nothing where a balance paid all', [whole(0)], 0, [0]],
    ['no debt of before', [whole(12_000)], 0, [9_000]],
    [
      'the larger plan for the days it was there',
      [
        {
          paid: 6_000,
          lines: [
            { amount: -6_000, from: 10, kind: 'proration' },
            { amount: 12_000, from: 10, kind: 'proration' },
          ],
        },
        whole(9_000),
      ],
      20,
      [3_000, 3_000],
    ],
    [
      'less what a smaller plan credited to the balance',
      [
        {
          paid: 0,
          lines: [
            { amount: -6_000, from: 10, kind: 'proration' },
            { amount: 2_000, from: 10, kind: 'proration' },
          ],
        },
        whole(9_000),
      ],
      10,
      [0, 2_000],
    ],
    [
      'all of a longer plan, also what the payment before it had left over',
      [
        {
          paid: 81_300,
          lines: [
            { amount: -8_700, from: 1, kind: 'proration' },
            { amount: 90_000, from: 1, to: 361, kind: 'proration' },
          ],
        },
        whole(9_000),
      ],
      2,
      [81_300, 8_450],
    ],
    ['prorations as they were written before', [whole(9_000, { kind: 'old_proration' })], 10, [6_000]],
    [
      'not what else was put onto the invoice',
      [{ paid: 59_000, lines: [{ amount: 50_000, from: 0, to: 0, kind: 'one_off' }, { amount: 9_000 }] }],
      10,
      [6_000],
    ],
    [
      'nor what belongs to nothing',
      [{ paid: 10_000, lines: [{ amount: 1_000, kind: 'nameless' }, { amount: 9_000 }] }],
      10,
      [6_000],
    ],
    ['less rather than more where it does not come out even', [whole(9_001)], 10, [6_000]],
  ] satisfies [string, Invoice[], number, number[]][])('is %s', async (_, invoices, day, expected) => {
    const { parts, cents, doubt } = await costOf(invoices, day, { cents: 90_000 });
    expect(parts.map((part) => part.cents)).toEqual(expected);
    expect(cents).toBe(expected.reduce((sum, one) => sum + one, 0));
    expect(doubt).toBeNull();
  });

  const next = { from: 30, to: 60 };
  it.each([
    ['one period is not too much', [whole(9_000)], {}, null],
    ['with tax on top it still is one period', [whole(10_800, { taxOnTop: 1_800 })], {}, null],
    ['a day more is', [whole(9_000, next), whole(300, { amount: 300, from: 29 })], {}, 'above_one_period'],
    ['two periods are', [whole(9_000, next), whole(9_000)], {}, 'above_one_period'],
    ['three seats cost three times as much', [whole(27_000, { amount: 27_000 })], { quantity: 3 }, null],
    [
      'and no more than that',
      [whole(9_000, next), whole(27_000, { amount: 27_000 })],
      { quantity: 3 },
      'above_one_period',
    ],
    ['in another currency its newest invoice says the price', [whole(9_000)], { currency: 'eur' }, null],
    [
      'and two periods are too much there too',
      [whole(9_000, next), whole(9_000)],
      { currency: 'eur' },
      'above_one_period',
    ],
    ['so it does for a price in steps', [whole(9_000)], { cents: null }, null],
    ['a credit note is for a person', [{ ...whole(9_000), creditNotes: 100 }], {}, 'credit_note'],
    ['more lines than are read are for a person', [{ paid: 9_000, lines: null }], {}, 'invoice_unclear'],
    ['no lines at all are for a person', [{ paid: 9_000, lines: [] }], {}, 'invoice_unclear'],
    ['none are no matter where nothing was paid', [{ paid: 0, lines: [] }], {}, null],
  ] satisfies [string, Invoice[], Subscription, string | null][])(
    '%s',
    async (_, invoices, subscription, doubt) => {
      expect((await costOf(invoices, 0, subscription)).doubt).toBe(doubt);
    },
  );

  it('does not mind a credit note on an invoice of before', async () => {
    const invoices = [whole(9_000, next), { ...whole(9_000), creditNotes: 100 }];
    expect(await costOf(invoices, 30)).toMatchObject({ cents: 9_000, doubt: null });
  });

  it('is never more than was paid on each invoice', async () => {
    const line = fc.record({
      amount: fc.integer({ min: -5_000, max: 90_000_000_000 }),
      from: fc.integer({ min: 0, max: 400 }),
      length: fc.integer({ min: 0, max: 366 }),
    });
    const invoice = fc.record({
      paid: fc.nat({ max: 90_000_000_000 }),
      lines: fc.array(line, { minLength: 1, maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(invoice, { maxLength: 4 }), fc.nat({ max: 400 }), async (drawn, day) => {
        const invoices = drawn.map(({ paid, lines }) => ({
          paid,
          lines: lines.map(({ amount, from, length }) => ({ amount, from, to: from + length })),
        }));
        const { parts } = await costOf(invoices, day);
        for (const [index, { cents }] of parts.entries()) {
          expect(Number.isSafeInteger(cents)).toBe(true);
          expect(cents).toBeGreaterThanOrEqual(0);
          expect(cents).toBeLessThanOrEqual(drawn[index]?.paid ?? 0);
        }
      }),
    );
  });
});

it('two were both there since the later one began, which may have been before it was made', () => {
  const one = { created: 100, start_date: 100 } as Stripe.Subscription;
  expect(bothSince(one, { created: 300, start_date: 300 } as Stripe.Subscription)).toBe(300);
  expect(bothSince({ created: 300, start_date: 200 } as Stripe.Subscription, one)).toBe(200);
});

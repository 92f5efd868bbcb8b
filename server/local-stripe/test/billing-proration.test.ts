import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { creditsAt, prorate } from '../billing/proration.ts';
import { billingWorld, changeTo, price, seconds, subscribe } from './support/billing.ts';

const START = '2026-03-01T00:00:00Z';
const MARCH = seconds('2026-04-01T00:00:00Z') - seconds(START);

/** Written apart from the code under test: whole cents of amount * part / whole, halves up, by long division. */
function share(amountCents: number, part: number, whole: number): number {
  const quotient = Math.floor(amountCents / whole) * part;
  const rest = (amountCents % whole) * part;
  const down = quotient + Math.floor(rest / whole);
  return rest % whole >= whole - (rest % whole) ? down + 1 : down;
}

describe('proration', () => {
  it('gives back exactly what it would charge for the same time', () => {
    fc.assert(
      fc.property(
        fc.nat(10_000_000),
        fc.integer({ min: 1, max: 31_622_400 }),
        fc.nat(31_622_400),
        (cents, length, into) => {
          const period = { start: 1_000, end: 1_000 + length };
          const from = 1_000 + Math.min(into, length);
          const charge = prorate(cents, period, from, period.end);
          expect(prorate(-cents, period, from, period.end) + charge).toBe(0);
          expect(Math.abs(charge - (cents * (period.end - from)) / length)).toBeLessThanOrEqual(0.5);
        },
      ),
    );
  });

  it('credits nothing for time that is over', () => {
    const debit = {
      item: 'si',
      price: 'p',
      quantity: 1,
      amountCents: 900,
      start: 0,
      end: 100,
      invoice: null,
      line: null,
      invoiceItem: null,
    };
    expect(creditsAt([debit], 100)).toEqual([]);
    expect(creditsAt([debit], 0).map(({ amountCents }) => amountCents)).toEqual([-900]);
  });

  it('bills an upgrade in the middle of March to the cent', () => {
    const { world, travel } = billingWorld(START);
    const [small, big] = [price(world, 9_900), price(world, 39_900)];
    const { id } = subscribe(world, small);
    travel('2026-03-11T06:00:00Z');
    const after = changeTo(world, id, big, 'always_invoice');
    const invoice = world.get('invoice', String(after.latest_invoice));
    const left = seconds('2026-04-01T00:00:00Z') - seconds('2026-03-11T06:00:00Z');
    expect(invoice.lines.data.map((line) => line.amount)).toEqual([
      -share(9_900, left, MARCH),
      share(39_900, left, MARCH),
    ]);
    expect(invoice).toMatchObject({
      billing_reason: 'subscription_update',
      status: 'paid',
      amount_paid: share(39_900, left, MARCH) - share(9_900, left, MARCH),
    });
    const credit =
      invoice.lines.data[0]?.parent?.subscription_item_details?.proration_details?.credited_items;
    expect(credit?.invoice).toBe(world.ofCustomer('invoice', String(after.customer))[0]?.id);
  });

  it('agrees with the formula over any number of changes, credit always taken from what was billed', () => {
    const amounts = fc.integer({ min: 1, max: 200_000 });
    const changes = fc.array(
      fc.tuple(fc.integer({ min: 1, max: 400_000 }), amounts, fc.integer({ min: 1, max: 5 })),
      {
        maxLength: 6,
      },
    );
    fc.assert(
      fc.property(amounts, changes, (first, steps) => {
        const { world, travel } = billingWorld(START);
        const { id, customer } = subscribe(world, price(world, first));
        let at = seconds(START);
        let billed = { amount: first, from: at };
        let expected = 0;
        for (const [later, cents, quantity] of steps) {
          at += later;
          travel(new Date(at * 1000).toISOString());
          const next = price(world, cents);
          changeTo(world, id, next, 'create_prorations', quantity);
          const left = seconds(START) + MARCH - at;
          const credit = share(billed.amount, left, seconds(START) + MARCH - billed.from);
          const charge = share(cents * quantity, left, MARCH);
          expected += charge - credit;
          // A remainder rounded to nothing was never billed, so nothing of it is left to credit.
          billed = { amount: charge, from: at };
        }
        const pending = world.ofCustomer('invoiceitem', String(customer));
        expect(pending.reduce((sum, item) => sum + item.amount, 0)).toBe(expected);
        travel('2026-04-01T00:00:00Z');
        const renewal = world.ofCustomer('invoice', String(customer)).at(-1);
        const [, cents, quantity] = steps.at(-1) ?? [0, first, 1];
        expect(renewal?.total).toBe(expected + cents * quantity);
      }),
      { numRuns: 60 },
    );
  });

  it('charges nothing and credits nothing with proration_behavior none', () => {
    const { world, travel } = billingWorld(START);
    const { id, customer } = subscribe(world, price(world, 9_900));
    travel('2026-03-20T00:00:00Z');
    changeTo(world, id, price(world, 100), 'none');
    expect(world.ofCustomer('invoiceitem', String(customer))).toEqual([]);
    travel('2026-04-01T00:00:00Z');
    expect(world.ofCustomer('invoice', String(customer)).at(-1)?.total).toBe(100);
  });

  it('turns a credit larger than the charge into customer balance, which pays the next invoice', () => {
    const { world, travel } = billingWorld(START);
    const { id, customer } = subscribe(world, price(world, 30_000));
    travel('2026-03-16T12:00:00Z');
    changeTo(world, id, price(world, 3_000), 'always_invoice');
    expect(world.get('customer', String(customer))).toMatchObject({ balance: -13_500 });
    travel('2026-04-01T00:00:00Z');
    expect(world.ofCustomer('invoice', String(customer)).at(-1)).toMatchObject({
      total: 3_000,
      amount_due: 0,
      status: 'paid',
      starting_balance: -13_500,
      ending_balance: -10_500,
    });
  });

  it('starts a new period and bills it in full when the interval changes', () => {
    const { world, travel } = billingWorld(START);
    const { id } = subscribe(world, price(world, 3_100));
    travel('2026-03-11T00:00:00Z');
    const after = changeTo(world, id, price(world, 31_000, 'year'));
    const invoice = world.get('invoice', String(after.latest_invoice));
    expect(invoice.lines.data.map((line) => line.amount)).toEqual([-2_100, 31_000]);
    expect(after.items.data[0]?.current_period_end).toBe(seconds('2027-03-11T00:00:00Z'));
  });
});

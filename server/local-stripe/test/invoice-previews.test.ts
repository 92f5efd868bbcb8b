import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { invoiceLinesAsText } from '../pages/invoice-view.ts';
import { localStripeWithClient } from './support/api.ts';

const MAY = Date.UTC(2026, 4, 1);
const [JUNE, JULY, NEXT_JUNE] = [Date.UTC(2026, 5, 1), Date.UTC(2026, 6, 1), Date.UTC(2027, 5, 1)].map(
  (ms) => ms / 1000,
);

/** A customer of May with a plan of $99 a month, beside others to change to. */
async function desk() {
  const time = { ms: MAY };
  const { localStripe, stripe } = await localStripeWithClient({ clock: () => time.ms });
  const product = await stripe.products.create({ name: 'Plan' });
  const price = async (unit_amount: number, interval: 'month' | 'year') =>
    (
      await stripe.prices.create({
        product: product.id,
        unit_amount,
        currency: 'usd',
        recurring: { interval },
      })
    ).id;
  const card = 'pm_card_visa';
  const { id: customer } = await stripe.customers.create({
    payment_method: card,
    invoice_settings: { default_payment_method: card },
  });
  const monthly = await price(9_900, 'month');
  const sub = await stripe.subscriptions.create({ customer, items: [{ price: monthly }] });
  const events: Stripe.Event[] = [];
  localStripe.world.onEvent((event) => events.push(event));
  return {
    stripe,
    price,
    customer,
    monthly,
    sub,
    events,
    travel(ms: number) {
      localStripe.world.runUntil(ms / 1000, null);
      time.ms = ms;
    },
    /** Books a price from June on, as the portal does. */
    async book(next: string, end_behavior: 'release' | 'cancel' = 'release') {
      const schedule = await stripe.subscriptionSchedules.create({ from_subscription: sub.id });
      const [now] = schedule.phases;
      const current = { start_date: now?.start_date ?? 0, end_date: now?.end_date ?? 0 };
      const last = { items: [{ price: next }], duration: { interval: 'month' as const } };
      return await stripe.subscriptionSchedules.update(schedule.id, {
        end_behavior,
        phases: [{ items: [{ price: monthly }], ...current }, ...(end_behavior === 'release' ? [last] : [])],
      });
    },
  };
}

const shown = ({ amount_due, lines }: Stripe.Invoice) => ({
  amount_due,
  lines: lines.data.map(({ amount, period, pricing }) => ({
    amount,
    period,
    price: pricing?.price_details?.price,
  })),
});

describe('the preview of a renewal', () => {
  it('without anything booked is another month', async () => {
    const { stripe, sub, monthly } = await desk();
    expect(shown(await stripe.invoices.createPreview({ subscription: sub.id }))).toEqual({
      amount_due: 9_900,
      lines: [{ amount: 9_900, period: { start: JUNE, end: JULY }, price: monthly }],
    });
  });

  it('with a cheaper price booked is of that price, asked for by subscription or by schedule', async () => {
    const { stripe, sub, price, book, travel, events } = await desk();
    const cheaper = await price(2_900, 'month');
    const schedule = await book(cheaper);
    const wanted = {
      amount_due: 2_900,
      lines: [{ amount: 2_900, period: { start: JUNE, end: JULY }, price: cheaper }],
    };
    expect(shown(await stripe.invoices.createPreview({ subscription: sub.id }))).toEqual(wanted);
    expect(shown(await stripe.invoices.createPreview({ schedule: schedule.id }))).toEqual(wanted);
    travel(Date.UTC(2026, 4, 30));
    const announced = events.find(({ type }) => type === 'invoice.upcoming')?.data.object;
    expect(shown(announced as Stripe.Invoice)).toEqual(wanted); // an event of this type holds an invoice
    travel(Date.UTC(2026, 5, 2));
    const [billed] = (await stripe.invoices.list({ subscription: sub.id, limit: 1 })).data;
    expect(billed && shown(billed), 'as it is billed then').toEqual(wanted);
  });

  it('with another interval booked is of the period that begins then', async () => {
    const { stripe, sub, price, book, travel } = await desk();
    const yearly = await price(29_000, 'year');
    await book(yearly);
    const wanted = {
      amount_due: 29_000,
      lines: [{ amount: 29_000, period: { start: JUNE, end: NEXT_JUNE }, price: yearly }],
    };
    expect(shown(await stripe.invoices.createPreview({ subscription: sub.id }))).toEqual(wanted);
    travel(Date.UTC(2026, 5, 2));
    const [billed] = (await stripe.invoices.list({ subscription: sub.id, limit: 1 })).data;
    expect(billed && shown(billed), 'as it is billed then').toEqual(wanted);
  });

  it('of a change that is asked about leaves out what is booked', async () => {
    const { stripe, sub, price, book } = await desk();
    await book(await price(2_900, 'month'));
    const dearer = await price(39_900, 'month');
    const [item] = sub.items.data;
    const preview = await stripe.invoices.createPreview({
      subscription: sub.id,
      subscription_details: {
        items: [{ id: item?.id ?? '', price: dearer }],
        proration_behavior: 'none',
      },
    });
    expect(shown(preview).lines).toEqual([
      { amount: 39_900, period: { start: JUNE, end: JULY }, price: dearer },
    ]);
  });

  it('is none where the schedule ends the subscription, nor is it announced', async () => {
    const { stripe, sub, price, book, travel, events } = await desk();
    const schedule = await book(await price(2_900, 'month'), 'cancel');
    for (const about of [{ subscription: sub.id }, { schedule: schedule.id }]) {
      await expect(stripe.invoices.createPreview(about)).rejects.toMatchObject({
        code: 'invoice_upcoming_none',
      });
    }
    travel(Date.UTC(2026, 5, 2));
    expect(events.map(({ type }) => type)).not.toContain('invoice.upcoming');
    expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('canceled');
  });

  it('is none before a cancellation, and is there where that comes later', async () => {
    const { stripe, sub } = await desk();
    const preview = () => stripe.invoices.createPreview({ subscription: sub.id });
    await stripe.subscriptions.update(sub.id, { cancel_at: JULY ?? 0, proration_behavior: 'none' });
    expect((await preview()).amount_due).toBe(9_900);
    await stripe.subscriptions.update(sub.id, { cancel_at: JUNE ?? 0, proration_behavior: 'none' });
    await expect(preview()).rejects.toMatchObject({ code: 'invoice_upcoming_none' });
  });

  it('cannot be asked for by schedule and subscription at once', async () => {
    const { stripe, sub, price, book } = await desk();
    const schedule = await book(await price(2_900, 'month'));
    await expect(
      stripe.invoices.createPreview({ schedule: schedule.id, subscription: sub.id }),
    ).rejects.toMatchObject({ statusCode: 400, param: 'schedule' });
  });
});

describe('the lines of an invoice', () => {
  async function withItems(count: number) {
    const at = await desk();
    for (let n = 0; n < count; n++)
      await at.stripe.invoiceItems.create({
        customer: at.customer,
        amount: 100 + n,
        currency: 'usd',
        description: `Session ${n}`,
      });
    return at;
  }

  it('are ten in the invoice and in its events, and the others by pages', async () => {
    const { stripe, customer, events } = await withItems(23);
    const created = await stripe.invoices.create({
      customer,
      pending_invoice_items_behavior: 'include',
      auto_advance: false,
    });
    const retrieved = await stripe.invoices.retrieve(created.id, { expand: ['customer'] });
    const [listed] = (await stripe.invoices.list({ customer, limit: 1 })).data;
    const told = events.find(({ type }) => type === 'invoice.created')?.data.object;
    for (const invoice of [created, retrieved, listed, told as Stripe.Invoice]) {
      expect(invoice?.lines.data).toHaveLength(10);
      expect(invoice?.lines.has_more).toBe(true);
      // 23 times 100, and 0 + 1 + … + 22
      expect(invoice?.total).toBe(2_553);
    }
    const first = await stripe.invoices.listLineItems(created.id);
    expect(first.data.map(({ id }) => id)).toEqual(created.lines.data.map(({ id }) => id));
    const seen = [];
    for await (const line of stripe.invoices.listLineItems(created.id, { limit: 7 })) seen.push(line.amount);
    expect(seen.sort()).toEqual(Array.from({ length: 23 }, (_, n) => 100 + n));
    const last = await stripe.invoices.listLineItems(created.id, { limit: 100 });
    expect(last).toMatchObject({ has_more: false });
    expect(last.data).toHaveLength(23);
  });

  it('are ten in an invoice within another object', async () => {
    const { stripe, customer, monthly } = await withItems(12);
    const { id } = await stripe.subscriptions.create({ customer, items: [{ price: monthly }] });
    const { latest_invoice: invoice } = await stripe.subscriptions.retrieve(id, {
      expand: ['latest_invoice'],
    });
    expect(invoice).toMatchObject({ lines: { has_more: true } });
    expect(typeof invoice === 'object' && invoice?.lines.data).toHaveLength(10);
  });

  it('of a preview are found by its id', async () => {
    const { stripe, sub } = await withItems(12);
    const preview = await stripe.invoices.createPreview({ subscription: sub.id });
    expect(preview.lines).toMatchObject({ has_more: true });
    expect(preview.lines.data).toHaveLength(10);
    const all = await stripe.invoices.listLineItems(preview.id, { limit: 100 });
    expect(all.data).toHaveLength(13);
    expect(all.data.slice(0, 10).map(({ id }) => id)).toEqual(preview.lines.data.map(({ id }) => id));
  });

  it('are all there where they are ten or fewer', async () => {
    const { stripe, sub } = await withItems(9);
    const preview = await stripe.invoices.createPreview({ subscription: sub.id });
    expect(preview.lines).toMatchObject({ has_more: false });
    expect(preview.lines.data).toHaveLength(10);
  });
});

it.each([
  ['credit', -5_000, 9_900, ['Total $99.00', 'From credit -$50.00', 'Paid $49.00']],
  ['more credit than is due', -12_000, 9_900, ['Total $99.00', 'From credit -$99.00']],
  ['something owed', 1_000, 9_900, ['Total $99.00', 'Owed from before $10.00', 'Paid $109.00']],
  ['nothing, and gives credit', 0, -3_000, ['Total -$30.00', 'To credit $30.00']],
])('shows on its page what a balance of %s did', async (_what, balance, amount, wanted) => {
  const { stripe, customer } = await desk();
  await stripe.customers.update(customer, { balance });
  await stripe.invoiceItems.create({ customer, amount, currency: 'usd' });
  const { id } = await stripe.invoices.create({ customer, pending_invoice_items_behavior: 'include' });
  const shown = async () => {
    const text = invoiceLinesAsText(await stripe.invoices.retrieve(id));
    return text
      .filter((line) => /^(Total|From|To|Owed|Paid|Due)\b/.test(line))
      .map((line) => line.replace(/ {2,}/, ' '));
  };
  expect(await shown(), 'while it is a draft').toContain(wanted[0]);
  expect((await shown()).join()).not.toMatch(/credit|Owed/);
  const final = await stripe.invoices.finalizeInvoice(id);
  if (final.status === 'open') await stripe.invoices.pay(id);
  expect(await shown()).toEqual(wanted);
});

it('applies a balance of credit to an invoice and says what was there before and after', async () => {
  const { stripe, customer } = await desk();
  await stripe.customers.update(customer, { balance: -5_000 });
  await stripe.invoiceItems.create({ customer, amount: 9_900, currency: 'usd' });
  const { id } = await stripe.invoices.create({ customer, pending_invoice_items_behavior: 'include' });
  expect(await stripe.invoices.finalizeInvoice(id)).toMatchObject({
    total: 9_900,
    starting_balance: -5_000,
    ending_balance: 0,
    amount_due: 4_900,
    total_taxes: [],
    total_discount_amounts: [],
  });
  expect(await stripe.invoices.pay(id)).toMatchObject({
    status: 'paid',
    amount_paid: 4_900,
    amount_remaining: 0,
  });
  expect(await stripe.customers.retrieve(customer)).toMatchObject({ balance: 0 });
});

import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { setBillingSettings } from '../billing/settings.ts';
import { eventually, localStripeWithClient, refusal } from './support/api.ts';

async function desk() {
  const { localStripe, stripe } = await localStripeWithClient();
  const { world } = localStripe;
  const product = await stripe.products.create({ name: 'Plan' });
  const price = (unit_amount: number, interval: 'month' | 'year' = 'month') =>
    stripe.prices.create({ product: product.id, unit_amount, currency: 'usd', recurring: { interval } });
  const customer = async (pm: string | null = 'pm_card_visa', extra: Stripe.CustomerCreateParams = {}) =>
    stripe.customers.create({
      ...extra,
      ...(pm === null ? {} : { payment_method: pm, invoice_settings: { default_payment_method: pm } }),
    });
  const types: string[] = [];
  world.onEvent((event) => types.push(event.type));
  return { stripe, world, price, customer, told: () => types.splice(0) };
}

describe('creating a subscription', () => {
  it('with default_incomplete waits for its payment intent to be confirmed', async () => {
    const { stripe, price, customer, told } = await desk();
    const subscription = await stripe.subscriptions.create({
      customer: (await customer(null)).id,
      items: [{ price: (await price(2_000)).id }],
      payment_behavior: 'default_incomplete',
      payment_settings: { save_default_payment_method: 'on_subscription' },
      expand: ['latest_invoice.confirmation_secret'],
    });
    expect(subscription.status).toBe('incomplete');
    const invoice = subscription.latest_invoice;
    const secret = typeof invoice === 'object' ? invoice?.confirmation_secret?.client_secret : undefined;
    expect(secret).toMatch(/^pi_.+_secret_/);
    told();
    await stripe.paymentIntents.confirm(secret?.split('_secret_')[0] ?? '', {
      payment_method: 'pm_card_visa',
    });
    const active = await stripe.subscriptions.retrieve(subscription.id);
    expect(active).toMatchObject({ status: 'active', default_payment_method: expect.stringMatching(/^pm_/) });
    expect(told()).toEqual(expect.arrayContaining(['invoice.paid', 'customer.subscription.updated']));
  });

  it('with error_if_incomplete is refused with 402 and leaves nothing behind', async () => {
    const { stripe, price, customer, told } = await desk();
    const { id } = await customer('pm_card_chargeCustomerFail');
    const plan = await price(2_000);
    told();
    const error = await refusal(
      stripe.subscriptions.create({
        customer: id,
        items: [{ price: plan.id }],
        payment_behavior: 'error_if_incomplete',
      }),
    );
    expect(error).toMatchObject({ statusCode: 402, type: 'StripeCardError', code: 'card_declined' });
    expect((await stripe.subscriptions.list({ status: 'all' })).data).toEqual([]);
    expect((await stripe.paymentIntents.list()).data).toEqual([]);
    expect(told()).toEqual([]);
  });

  it('without a payment method is refused', async () => {
    const { stripe, price, customer } = await desk();
    const { id } = await customer(null);
    const error = await refusal(
      stripe.subscriptions.create({ customer: id, items: [{ price: (await price(2_000)).id }] }),
    );
    expect(error.message).toContain('no attached payment source or default payment method');
  });

  it('takes up pending invoice items and charges them with the first period', async () => {
    const { stripe, price, customer } = await desk();
    const { id } = await customer();
    await stripe.invoiceItems.create({ customer: id, amount: 500, currency: 'usd', description: 'setup' });
    const subscription = await stripe.subscriptions.create({
      customer: id,
      items: [{ price: (await price(2_000)).id }],
      expand: ['latest_invoice'],
    });
    expect(subscription.latest_invoice).toMatchObject({ amount_paid: 2_500, status: 'paid' });
  });

  it('names what it does not know and what it does not support', async () => {
    const { stripe, price, customer } = await desk();
    const base = { customer: (await customer()).id, items: [{ price: (await price(1)).id }] };
    const unknown = await refusal(stripe.subscriptions.create({ ...base, ...{ colour: 'red' } }));
    expect(unknown).toMatchObject({ code: 'parameter_unknown', param: 'colour' });
    const unsupported = await refusal(
      stripe.subscriptions.create({ ...base, discounts: [{ coupon: 'half' }] }),
    );
    expect(unsupported).toMatchObject({ statusCode: 400, param: 'discounts' });
    expect(unsupported.message).toContain('the local Stripe does not support it');
  });
});

describe('updating a subscription', () => {
  it('by item id, previews exactly what it bills', async () => {
    const { stripe, price, customer } = await desk();
    const [small, big] = [await price(3_000), await price(9_000)];
    const { id, items } = await stripe.subscriptions.create({
      customer: (await customer()).id,
      items: [{ price: small.id }],
    });
    const [item] = items.data;
    const proration_date = item?.current_period_start;
    const change = {
      items: [{ id: item?.id ?? '', price: big.id }],
      proration_behavior: 'always_invoice' as const,
      proration_date: proration_date ?? 0,
    };
    const preview = await stripe.invoices.createPreview({ subscription: id, subscription_details: change });
    expect(preview.amount_due).toBe(6_000);
    const outside = await refusal(stripe.subscriptions.update(id, { ...change, proration_date: 1 }));
    expect(outside).toMatchObject({ statusCode: 400, param: 'proration_date' });
    const updated = await stripe.subscriptions.update(id, { ...change, expand: ['latest_invoice'] });
    expect(updated.latest_invoice).toMatchObject({ amount_paid: 6_000 });
    expect((await stripe.invoices.createPreview({ subscription: id })).total).toBe(9_000);
  });

  it('declined with error_if_incomplete leaves plan, items and events as they were', async () => {
    const { stripe, price, customer, told } = await desk();
    const { id: owner } = await customer();
    const { id, items } = await stripe.subscriptions.create({
      customer: owner,
      items: [{ price: (await price(1_000)).id }],
    });
    const method = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: owner });
    await stripe.customers.update(owner, { invoice_settings: { default_payment_method: method.id } });
    const big = await price(9_000);
    told();
    const error = await refusal(
      stripe.subscriptions.update(id, {
        items: [{ id: items.data[0]?.id ?? '', price: big.id }],
        proration_behavior: 'always_invoice',
        payment_behavior: 'error_if_incomplete',
      }),
    );
    expect(error.statusCode).toBe(402);
    expect(told()).toEqual([]);
    expect((await stripe.subscriptions.retrieve(id)).items.data[0]?.price.unit_amount).toBe(1_000);
  });

  it('adds and removes items by their own routes', async () => {
    const { stripe, price, customer } = await desk();
    const { id } = await stripe.subscriptions.create({
      customer: (await customer()).id,
      items: [{ price: (await price(1_000)).id }],
    });
    const added = await stripe.subscriptionItems.create({
      subscription: id,
      price: (await price(500)).id,
      quantity: 2,
    });
    expect(added).toMatchObject({ object: 'subscription_item', quantity: 2 });
    expect((await stripe.subscriptionItems.list({ subscription: id })).data).toHaveLength(2);
    await stripe.subscriptionItems.del(added.id);
    expect((await stripe.subscriptions.retrieve(id)).items.data).toHaveLength(1);
    const last = (await stripe.subscriptionItems.list({ subscription: id })).data[0];
    expect((await refusal(stripe.subscriptionItems.del(last?.id ?? ''))).message).toContain('at least one');
  });

  it('sets and undoes the cancellation, and refuses a canceled one', async () => {
    const { stripe, price, customer } = await desk();
    const { id } = await stripe.subscriptions.create({
      customer: (await customer()).id,
      items: [{ price: (await price(1_000)).id }],
    });
    const ending = await stripe.subscriptions.update(id, { cancel_at: 'min_period_end' });
    expect(ending.cancel_at).toBe(ending.items.data[0]?.current_period_end);
    expect(ending.cancel_at_period_end).toBe(false);
    expect(await stripe.subscriptions.update(id, { cancel_at: '' })).toMatchObject({
      cancel_at: null,
      canceled_at: null,
    });
    await stripe.subscriptions.cancel(id);
    expect(await refusal(stripe.subscriptions.cancel(id))).toMatchObject({
      statusCode: 404,
      code: 'resource_missing',
    });
    expect((await refusal(stripe.subscriptions.update(id, { description: 'x' }))).statusCode).toBe(400);
    expect((await stripe.subscriptions.list()).data).toEqual([]);
    expect((await stripe.subscriptions.list({ status: 'canceled' })).data).toHaveLength(1);
  });
});

describe('invoices', () => {
  it('by hand are drafted, finalized, declined with 402, paid, and never paid twice', async () => {
    const { stripe, customer } = await desk();
    const { id } = await customer(null);
    await stripe.invoiceItems.create({ customer: id, amount: 2_000, currency: 'usd' });
    const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' });
    expect(draft).toMatchObject({ status: 'draft', total: 2_000, billing_reason: 'manual', number: null });
    await stripe.invoices.finalizeInvoice(draft.id);
    const method = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id });
    expect((await refusal(stripe.invoices.pay(draft.id, { payment_method: method.id }))).statusCode).toBe(
      402,
    );
    expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({ status: 'open', attempt_count: 1 });
    const paid = await stripe.invoices.pay(draft.id, { payment_method: 'pm_card_visa' });
    expect(paid).toMatchObject({ status: 'paid', amount_remaining: 0 });
    expect((await refusal(stripe.invoices.pay(draft.id))).message).toBe('Invoice is already paid');
    const payments = await stripe.invoicePayments.list({ invoice: draft.id });
    expect(payments.data).toMatchObject([{ status: 'paid', amount_paid: 2_000, is_default: true }]);
  });

  it('can be voided, given up, or settled outside', async () => {
    const { stripe, customer, told } = await desk();
    const { id } = await customer();
    const open = async () => {
      const draft = await stripe.invoices.create({ customer: id });
      await stripe.invoiceItems.create({ customer: id, invoice: draft.id, amount: 700, currency: 'usd' });
      return stripe.invoices.finalizeInvoice(draft.id);
    };
    expect((await stripe.invoices.voidInvoice((await open()).id)).status).toBe('void');
    expect((await stripe.invoices.markUncollectible((await open()).id)).status).toBe('uncollectible');
    const outside = await stripe.invoices.pay((await open()).id, { paid_out_of_band: true });
    expect(outside).toMatchObject({ status: 'paid', amount_paid_off_stripe: 700 });
    expect(told()).toEqual(
      expect.arrayContaining(['payment_intent.canceled', 'invoice.voided', 'invoice.marked_uncollectible']),
    );
  });

  it('of renewals stay drafts for as long as the settings say', async () => {
    const { stripe, world, price } = await desk();
    setBillingSettings(world, { draftSeconds: 3_600 });
    const clock = await stripe.testHelpers.testClocks.create({
      frozen_time: Date.parse('2026-01-31T00:00:00Z') / 1000,
    });
    const { id } = await stripe.customers.create({
      test_clock: clock.id,
      payment_method: 'pm_card_visa',
      invoice_settings: { default_payment_method: 'pm_card_visa' },
    });
    await stripe.subscriptions.create({ customer: id, items: [{ price: (await price(1_000)).id }] });
    const advance = async (to: string) => {
      await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: Date.parse(to) / 1000 });
      await eventually(
        'clock ready',
        async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status === 'ready',
      );
    };
    await advance('2026-02-28T00:00:00Z');
    const [draft] = (await stripe.invoices.list({ customer: id })).data;
    expect(draft).toMatchObject({ status: 'draft', billing_reason: 'subscription_cycle' });
    await advance('2026-02-28T01:00:00Z');
    expect((await stripe.invoices.retrieve(draft?.id ?? '')).status).toBe('paid');
  });
});

describe('schedules', () => {
  it('change the price at the phase boundary, then release the subscription', async () => {
    const { stripe, price, world } = await desk();
    const start = Date.parse('2026-01-01T00:00:00Z') / 1000;
    const clock = await stripe.testHelpers.testClocks.create({ frozen_time: start });
    const { id: owner } = await stripe.customers.create({
      test_clock: clock.id,
      payment_method: 'pm_card_visa',
      invoice_settings: { default_payment_method: 'pm_card_visa' },
    });
    const [first, second] = [await price(1_000), await price(5_000)];
    const schedule = await stripe.subscriptionSchedules.create({
      customer: owner,
      start_date: 'now',
      end_behavior: 'release',
      phases: [
        { items: [{ price: first.id }], duration: { interval: 'month', interval_count: 2 } },
        { items: [{ price: second.id }], duration: { interval: 'month' } },
      ],
    });
    expect(schedule).toMatchObject({ status: 'active', subscription: expect.stringMatching(/^sub_/) });
    await stripe.testHelpers.testClocks.advance(clock.id, {
      frozen_time: Date.parse('2026-04-02T00:00:00Z') / 1000,
    });
    await eventually('clock ready', () => world.get('test_helpers.test_clock', clock.id).status === 'ready');
    const totals = (await stripe.invoices.list({ customer: owner })).data.map(({ total }) => total);
    expect(totals).toEqual([5_000, 5_000, 1_000, 1_000]);
    expect(await stripe.subscriptionSchedules.retrieve(schedule.id)).toMatchObject({ status: 'released' });
  });

  it('keep their subscription from being canceled directly, until released', async () => {
    const { stripe, price, customer } = await desk();
    const { id } = await stripe.subscriptions.create({
      customer: (await customer()).id,
      items: [{ price: (await price(1_000)).id }],
    });
    const schedule = await stripe.subscriptionSchedules.create({ from_subscription: id });
    const error = await refusal(stripe.subscriptions.update(id, { cancel_at_period_end: true }));
    expect(error.message).toContain(schedule.id);
    await stripe.subscriptionSchedules.release(schedule.id);
    expect((await stripe.subscriptions.update(id, { cancel_at_period_end: true })).cancel_at_period_end).toBe(
      true,
    );
  });
});

describe('portal configurations', () => {
  it('are created, listed, changed and used by sessions', async () => {
    const { stripe, price, customer } = await desk();
    const plan = await price(1_000);
    const configuration = await stripe.billingPortal.configurations.create({
      business_profile: { headline: 'Plans' },
      features: {
        subscription_update: {
          enabled: true,
          default_allowed_updates: ['price'],
          products: [{ product: String(plan.product), prices: [plan.id] }],
        },
      },
    });
    expect(configuration.features).toMatchObject({
      subscription_cancel: { enabled: false },
      subscription_update: { enabled: true, proration_behavior: 'none', products: [{ prices: [plan.id] }] },
    });
    await stripe.billingPortal.configurations.update(configuration.id, {
      default_return_url: 'https://app.test/',
    });
    const session = await stripe.billingPortal.sessions.create({
      customer: (await customer()).id,
      configuration: configuration.id,
    });
    expect(session).toMatchObject({ configuration: configuration.id, return_url: 'https://app.test/' });
    expect((await stripe.billingPortal.configurations.list({ active: true })).data).toHaveLength(1);
  });
});

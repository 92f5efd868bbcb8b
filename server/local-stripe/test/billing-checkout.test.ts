import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { finishAuthentication, payCheckoutSession } from '../checkout/pay.ts';
import { createTestPaymentMethod } from '../payment-methods.ts';
import { settleDelayed } from '../payments.ts';
import type { World } from '../world.ts';
import { localStripeWithClient, refusal } from './support/api.ts';

async function shop(clock = { ms: Date.parse('2026-05-01T00:00:00Z') }) {
  const { localStripe, stripe } = await localStripeWithClient({ clock: () => clock.ms });
  const { world } = localStripe;
  const { id: product } = await stripe.products.create({ name: 'API Builder' });
  const plan = await stripe.prices.create({
    product,
    unit_amount: 9_900,
    currency: 'usd',
    recurring: { interval: 'month' },
  });
  const pack = await stripe.prices.create({ product, unit_amount: 299, currency: 'usd' });
  const types: string[] = [];
  world.onEvent((event) => types.push(event.type));
  const open = (extra: Partial<Stripe.Checkout.SessionCreateParams> = {}) =>
    stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: plan.id, quantity: 1 }],
      success_url: 'https://app.test/ok?session_id={CHECKOUT_SESSION_ID}',
      cancel_url: 'https://app.test/no',
      ...extra,
    });
  const openPack = (extra: Partial<Stripe.Checkout.SessionCreateParams> = {}) =>
    open({ mode: 'payment', line_items: [{ price: pack.id, quantity: 1 }], ...extra });
  return { localStripe, stripe, world, plan, pack, open, openPack, clock, told: () => types.splice(0) };
}

function pay(world: World, id: string, pmAlias: string) {
  return world.atomically(() =>
    payCheckoutSession(world, id, {
      paymentMethod: createTestPaymentMethod(world, { pmAlias }).id,
      email: 'jo@example.test',
    }),
  );
}

describe('a subscription checkout', () => {
  it('paid tells every event once, each after its cause', async () => {
    const { world, open, told } = await shop();
    const { id } = await open();
    told();
    expect(pay(world, id, 'pm_card_visa').outcome).toBe('complete');
    expect(told()).toEqual([
      'customer.created',
      'payment_intent.created',
      'charge.succeeded',
      'payment_method.attached',
      'payment_intent.succeeded',
      'customer.subscription.created',
      'invoice.created',
      'invoice.finalized',
      'invoice_payment.paid',
      'invoice.paid',
      'invoice.payment_succeeded',
      'checkout.session.completed',
    ]);
  });

  it('carries reference and metadata to session and subscription, and expands them', async () => {
    const { world, stripe, open, plan } = await shop();
    const { id, url } = await open({
      client_reference_id: 'account_1',
      metadata: { kind: 'subscription' },
      subscription_data: { metadata: { account: '1' } },
      allowed_payment_method_types: ['card'],
    });
    expect(url).toContain(`/c/pay/${id}`);
    pay(world, id, 'pm_card_visa');
    const session = await stripe.checkout.sessions.retrieve(id, {
      expand: ['line_items', 'subscription.latest_invoice.payments'],
    });
    expect(session).toMatchObject({
      status: 'complete',
      payment_status: 'paid',
      url: null,
      client_reference_id: 'account_1',
      metadata: { kind: 'subscription' },
      amount_total: 9_900,
      customer_details: { email: 'jo@example.test' },
      line_items: { data: [{ price: { id: plan.id }, amount_total: 9_900 }] },
      subscription: {
        status: 'active',
        metadata: { account: '1' },
        latest_invoice: {
          billing_reason: 'subscription_create',
          payments: { data: [{ status: 'paid', amount_paid: 9_900 }] },
        },
      },
    });
    expect(session.payment_intent).toBeNull();
    expect((await stripe.checkout.sessions.list({ customer: String(session.customer) })).data).toHaveLength(
      1,
    );
  });

  it('declined stays open, makes no second customer, and is paid by the next card', async () => {
    const { world, stripe, open, told } = await shop();
    const { id } = await open();
    const declined = pay(world, id, 'pm_card_chargeDeclined');
    expect(declined).toMatchObject({ outcome: 'declined', message: 'Your card was declined.' });
    expect(told()).not.toContain('customer.subscription.created');
    expect(pay(world, id, 'pm_card_visa').outcome).toBe('complete');
    expect((await stripe.customers.list()).data).toHaveLength(1);
  });

  it('paid twice buys once', async () => {
    const { world, stripe, open, told } = await shop();
    const { id } = await open();
    pay(world, id, 'pm_card_visa');
    told();
    expect(pay(world, id, 'pm_card_visa').outcome).toBe('complete');
    expect(told()).toEqual([]);
    expect((await stripe.subscriptions.list()).data).toHaveLength(1);
  });

  it('waits for 3D Secure, and a failed one can be tried again', async () => {
    const { world, open } = await shop();
    const { id } = await open();
    expect(pay(world, id, 'pm_card_authenticationRequired').outcome).toBe('requires_action');
    const failed = world.atomically(() => finishAuthentication(world, id, 'fail'));
    expect(failed).toMatchObject({ outcome: 'declined', session: { status: 'open' } });
    pay(world, id, 'pm_card_authenticationRequired');
    const done = world.atomically(() => finishAuthentication(world, id, 'succeed'));
    expect(done).toMatchObject({
      outcome: 'complete',
      session: { status: 'complete', payment_status: 'paid' },
    });
  });

  it('with a trial charges nothing and keeps the card', async () => {
    const { world, stripe, open } = await shop();
    const { id } = await open({ subscription_data: { trial_period_days: 14 } });
    expect(pay(world, id, 'pm_card_visa').session).toMatchObject({
      payment_status: 'no_payment_required',
      amount_total: 0,
    });
    const [subscription] = (await stripe.subscriptions.list({ expand: ['data.default_payment_method'] }))
      .data;
    expect(subscription).toMatchObject({ status: 'trialing', default_payment_method: { type: 'card' } });
  });
});

describe('a subscription by bank debit', () => {
  it.each([
    ['succeed', 'active', 'paid'],
    ['fail', 'past_due', 'open'],
  ] as const)(
    'runs while the debit is on its way, and is %s -> %s',
    async (outcome, status, invoiceStatus) => {
      const { world, stripe, plan, open } = await shop();
      const euro = await stripe.prices.create({
        product: String(plan.product),
        unit_amount: 900,
        currency: 'eur',
        recurring: { interval: 'month' },
      });
      const { id } = await open({
        line_items: [{ price: euro.id, quantity: 1 }],
        allowed_payment_method_types: ['sepa_debit'],
      });
      const method = createTestPaymentMethod(world, { iban: 'DE89370400440532013000' }).id;
      const { session } = world.atomically(() =>
        payCheckoutSession(world, id, { paymentMethod: method, email: null }),
      );
      expect(session.payment_status).toBe('unpaid');
      expect(world.get('subscription', String(session.subscription)).status).toBe('active');
      const [intent] = (await stripe.paymentIntents.list()).data;
      world.atomically(() => settleDelayed(world, intent?.id ?? '', outcome));
      expect(world.get('subscription', String(session.subscription)).status).toBe(status);
      expect(world.get('invoice', String(session.invoice)).status).toBe(invoiceStatus);
    },
  );
});

describe('a one-time checkout', () => {
  it('gives the payment intent its metadata and leaves no subscription', async () => {
    const { world, stripe, openPack } = await shop();
    const { id: customer } = await stripe.customers.create({ email: 'jo@example.test' });
    const { id } = await openPack({ customer, payment_intent_data: { metadata: { account: '1' } } });
    pay(world, id, 'pm_card_visa');
    const session = await stripe.checkout.sessions.retrieve(id, { expand: ['payment_intent'] });
    expect(session).toMatchObject({
      customer,
      subscription: null,
      payment_status: 'paid',
      payment_intent: { amount: 299, status: 'succeeded', metadata: { account: '1' } },
    });
  });

  it.each([
    ['succeed', 'paid', 'checkout.session.async_payment_succeeded'],
    ['fail', 'unpaid', 'checkout.session.async_payment_failed'],
  ] as const)('by bank debit completes unpaid, and %s later ends %s', async (outcome, status, event) => {
    const { world, stripe, pack, openPack, told } = await shop();
    const euro = await stripe.prices.create({
      product: String(pack.product),
      unit_amount: 299,
      currency: 'eur',
    });
    const { id } = await openPack({
      line_items: [{ price: euro.id, quantity: 1 }],
      allowed_payment_method_types: ['sepa_debit'],
    });
    const method = createTestPaymentMethod(world, { iban: 'DE89370400440532013000' }).id;
    const paid = world.atomically(() =>
      payCheckoutSession(world, id, { paymentMethod: method, email: null }),
    );
    expect(paid).toMatchObject({
      outcome: 'processing',
      session: { status: 'complete', payment_status: 'unpaid' },
    });
    told();
    world.atomically(() => settleDelayed(world, String(paid.session.payment_intent), outcome));
    expect(told()).toContain(event);
    expect((await stripe.checkout.sessions.retrieve(id)).payment_status).toBe(status);
  });
});

describe('an open session', () => {
  it('expires on request, once', async () => {
    const { stripe, world, open, told } = await shop();
    const { id } = await open();
    told();
    expect(await stripe.checkout.sessions.expire(id)).toMatchObject({ status: 'expired', url: null });
    expect(told()).toEqual(['checkout.session.expired']);
    expect((await refusal(stripe.checkout.sessions.expire(id))).message).toContain('status of expired');
    expect(() => pay(world, id, 'pm_card_visa')).toThrow('expired');
  });

  it('expires by itself', async () => {
    const { stripe, world, open, clock } = await shop();
    const { id } = await open({ expires_at: clock.ms / 1000 + 1_800 });
    clock.ms += 1_800_000;
    expect(() => pay(world, id, 'pm_card_visa')).toThrow('expired');
    world.runUntil(world.now(), null);
    expect((await stripe.checkout.sessions.retrieve(id)).status).toBe('expired');
  });

  it.each([
    ['expires_at', { expires_at: Date.parse('2026-05-01T00:20:00Z') / 1000 }],
    ['expires_at', { expires_at: Date.parse('2026-05-02T00:20:00Z') / 1000 }],
    ['payment_intent_data', { payment_intent_data: { description: 'x' } }],
    ['line_items', { line_items: [] }],
    ['line_items[0][price]', { line_items: [{ price: 'price_gone', quantity: 1 }] }],
    ['customer', { customer: 'cus_gone' }],
    ['discounts', { discounts: [{ coupon: 'half' }] }],
    ['automatic_tax[enabled]', { automatic_tax: { enabled: true } }],
  ])('is not made with a bad %s', async (param, extra) => {
    const { open } = await shop();
    const error = await refusal(open(extra));
    expect(error).toMatchObject({ statusCode: 400, param });
  });

  it('refuses recurring prices in payment mode and one-time prices alone in subscription mode', async () => {
    const { open, plan, pack } = await shop();
    const recurring = await refusal(open({ mode: 'payment', line_items: [{ price: plan.id }] }));
    expect(recurring.message).toContain('passed a recurring price');
    const once = await refusal(open({ line_items: [{ price: pack.id }] }));
    expect(once.message).toContain('at least one recurring price');
  });
});

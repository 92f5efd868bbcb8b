import type Stripe from 'stripe';
import { eventually } from './api.ts';
import type { recordedLocalStripe } from './recording.ts';

type Recorded = Awaited<ReturnType<typeof recordedLocalStripe>>;

const DAY = 86_400;
const CARD_EXPIRY = { exp_month: 12, exp_year: 2040 };

/** What the runs below sell. */
type Shop = {
  readonly starter: string;
  readonly builder: string;
  readonly yearly: string;
  readonly pack: string;
};

/**
 * Every object in every state it can get into: the catalogue, all test payments, the lifecycles of subscriptions by
 * test clock, Checkout in all its outcomes, the portal, schedules, invoices by hand, and reading all of it again.
 */
export async function wholeRun(recorded: Recorded, clock: { ms: number }): Promise<void> {
  const shop = await catalogue(recorded);
  await payments(recorded);
  await bankDebits(recorded);
  await refundsAndDisputes(recorded);
  await savedMethods(recorded);
  await subscriptions(recorded, shop);
  await lifecycles(recorded, shop);
  await invoicesByHand(recorded, shop);
  await schedules(recorded, shop);
  await checkouts(recorded, shop, clock);
  await portal(recorded, shop);
  await endings(recorded);
  await readAll(recorded);
}

async function catalogue({ stripe }: Recorded): Promise<Shop> {
  const product = await stripe.products.create({
    name: 'Builder',
    description: 'For builders',
    metadata: { a: 'b' },
  });
  await stripe.products.update(product.id, { name: 'API Builder' });
  const price = (unit_amount: number, rest: Partial<Stripe.PriceCreateParams>) =>
    stripe.prices.create({ product: product.id, currency: 'usd', unit_amount, ...rest });
  const starter = await price(2_900, {
    recurring: { interval: 'month' },
    lookup_key: 'starter',
    nickname: 'small',
  });
  const builder = await price(9_900, { recurring: { interval: 'month' }, lookup_key: 'builder' });
  const yearly = await price(99_000, { recurring: { interval: 'year' }, lookup_key: 'yearly' });
  const pack = await price(299, { lookup_key: 'pack', expand: ['product'] });
  const old = await price(1, {});
  await stripe.prices.update(old.id, { active: false, metadata: { old: 'yes' } });
  await price(3_900, { recurring: { interval: 'month' }, lookup_key: 'starter', transfer_lookup_key: true });
  return { starter: starter.id, builder: builder.id, yearly: yearly.id, pack: pack.id };
}

async function payments({ stripe, hook }: Recorded): Promise<void> {
  const pay = (payment_method: string, rest: Partial<Stripe.PaymentIntentCreateParams> = {}) =>
    stripe.paymentIntents.create({ amount: 2_000, currency: 'usd', confirm: true, payment_method, ...rest });
  const expand = ['latest_charge.balance_transaction', 'payment_method', 'customer'];
  const { id: customer } = await stripe.customers.create({
    email: 'jo@example.test',
    name: 'Jo',
    phone: '+1 555',
    address: { line1: '1 Road', city: 'Town', country: 'US', postal_code: '94103', state: 'CA' },
    shipping: { name: 'Jo', address: { line1: '1 Road' } },
    preferred_locales: ['en'],
    metadata: { account: '1' },
  });
  await stripe.customers.update(customer, { description: 'a person', tax_exempt: 'none' });
  for (const alias of ['visa', 'mastercard', 'amex', 'discover', 'diners', 'jcb', 'unionpay', 'visa_debit'])
    await pay(`pm_card_${alias}`, { customer, expand, receipt_email: 'jo@example.test' });
  await pay('pm_card_visa', {
    automatic_payment_methods: { enabled: true },
    description: 'with all',
    metadata: { order: '1' },
    shipping: { name: 'Jo', phone: '+1', address: { line1: '1 Road' } },
    setup_future_usage: 'off_session',
    customer,
  });
  for (const number of ['4000000000000002', '4000000000009995', '4000000000000069', '4000000000000127']) {
    const card = await stripe.paymentMethods.create({
      type: 'card',
      card: { number, ...CARD_EXPIRY, cvc: '123' },
      billing_details: { name: 'Jo', email: 'jo@example.test', address: { country: 'US' } },
    });
    await refused(pay(card.id));
  }
  const [declined] = (await stripe.paymentIntents.list({ limit: 1, expand: ['data.latest_charge'] })).data;
  await stripe.paymentIntents.confirm(declined?.id ?? '', { payment_method: 'pm_card_visa' });
  const waiting = await pay('pm_card_authenticationRequired', { return_url: 'https://app.test/back' });
  await hook(`/payment_intents/${waiting.id}/authenticate`, { outcome: 'succeed' });
  const failing = await pay('pm_card_authenticationRequired', { use_stripe_sdk: true });
  await hook(`/payment_intents/${failing.id}/authenticate`, { outcome: 'fail' });
  await stripe.paymentIntents.update(failing.id, { amount: 2_500, metadata: { again: 'yes' } });
  await stripe.paymentIntents.retrieve(failing.id);
  await stripe.paymentIntents.cancel(failing.id, { cancellation_reason: 'abandoned' });
  await stripe.paymentIntents.create({ amount: 100, currency: 'eur' });
  await stripe.paymentIntents.create({ amount: 100, currency: 'usd', payment_method: 'pm_card_visa' });
}

async function bankDebits({ stripe, hook }: Recorded): Promise<void> {
  const sepa = (iban: string) =>
    stripe.paymentMethods.create({
      type: 'sepa_debit',
      sepa_debit: { iban },
      billing_details: { name: 'Jo', email: 'jo@example.test' },
    });
  const bank = (account_number: string) =>
    stripe.paymentMethods.create({
      type: 'us_bank_account',
      us_bank_account: { routing_number: '110000000', account_number, account_holder_type: 'individual' },
      billing_details: { name: 'Jo' },
    });
  const pay = (method: Stripe.PaymentMethod, currency: string) =>
    stripe.paymentIntents.create({
      amount: 4_000,
      currency,
      confirm: true,
      payment_method: method.id,
      allowed_payment_method_types: method.type === 'sepa_debit' ? ['sepa_debit'] : ['us_bank_account'],
      expand: ['latest_charge'],
    });
  for (const outcome of ['succeed', 'fail']) {
    const debit = await pay(await sepa('AT611904300234573201'), 'eur');
    await hook(`/payment_intents/${debit.id}/settle`, { outcome });
    await stripe.paymentIntents.retrieve(debit.id, { expand: ['latest_charge', 'payment_method'] });
    const transfer = await pay(await bank('000123456789'), 'usd');
    await hook(`/payment_intents/${transfer.id}/settle`, { outcome });
    await stripe.paymentIntents.retrieve(transfer.id, { expand: ['latest_charge', 'payment_method'] });
  }
}

async function refundsAndDisputes({ stripe, hook }: Recorded): Promise<void> {
  const paid = async (payment_method = 'pm_card_visa') =>
    (await stripe.paymentIntents.create({ amount: 5_000, currency: 'usd', confirm: true, payment_method }))
      .id;
  const first = await paid();
  const part = await stripe.refunds.create({ payment_intent: first, amount: 1_000, reason: 'duplicate' });
  await stripe.refunds.update(part.id, { metadata: { why: 'twice' } });
  const rest = await stripe.refunds.create({
    payment_intent: first,
    expand: ['charge', 'balance_transaction'],
  });
  await hook(`/refunds/${rest.id}/fail`, {});
  await stripe.refunds.retrieve(rest.id);
  for (const outcome of ['won', 'lost']) {
    const intent = await stripe.paymentIntents.retrieve(await paid());
    await hook(`/charges/${intent.latest_charge}/dispute`, { reason: 'product_not_received' });
    const [dispute] = (await stripe.disputes.list({ charge: String(intent.latest_charge) })).data;
    const id = dispute?.id ?? '';
    await stripe.disputes.update(id, { evidence: { uncategorized_text: 'They got it.' } });
    await hook(`/disputes/${id}/close`, { outcome });
    await stripe.disputes.retrieve(id, { expand: ['charge', 'payment_intent'] });
  }
  await paid('pm_card_createDispute');
  const [open] = (await stripe.disputes.list({ limit: 1 })).data;
  await stripe.disputes.close(open?.id ?? '');
  const [charge] = (await stripe.charges.list({ limit: 1, expand: ['data.refunds'] })).data;
  await stripe.charges.update(charge?.id ?? '', { description: 'noted', metadata: { seen: 'yes' } });
}

async function savedMethods({ stripe, hook }: Recorded): Promise<void> {
  const { id: customer } = await stripe.customers.create({ email: 'saver@example.test' });
  const saved = await stripe.setupIntents.create({ customer, confirm: true, payment_method: 'pm_card_visa' });
  await stripe.setupIntents.retrieve(saved.id, { expand: ['payment_method', 'customer'] });
  for (const outcome of ['succeed', 'fail']) {
    const asked = await stripe.setupIntents.create({
      customer,
      confirm: true,
      payment_method: 'pm_card_authenticationRequiredOnSetup',
      return_url: 'https://app.test/back',
    });
    await hook(`/setup_intents/${asked.id}/authenticate`, { outcome });
    await stripe.setupIntents.retrieve(asked.id);
  }
  await refused(
    stripe.setupIntents.create({ customer, confirm: true, payment_method: 'pm_card_chargeDeclined' }),
  );
  const unused = await stripe.setupIntents.create({ customer, description: 'later', metadata: { a: 'b' } });
  await stripe.setupIntents.update(unused.id, { payment_method: 'pm_card_visa' });
  await stripe.setupIntents.cancel(unused.id, { cancellation_reason: 'abandoned' });
  const [method] = (await stripe.customers.listPaymentMethods(customer)).data;
  const id = method?.id ?? '';
  await stripe.paymentMethods.update(id, { billing_details: { name: 'Jo' }, allow_redisplay: 'always' });
  await stripe.paymentMethods.detach(id);
  await stripe.paymentMethods.retrieve('pm_card_visa');
}

async function subscriptions(recorded: Recorded, shop: Shop): Promise<void> {
  const { stripe } = recorded;
  const customer = await payer(recorded);
  const subscription = await stripe.subscriptions.create({
    customer,
    items: [{ price: shop.starter, quantity: 2, metadata: { seat: 'yes' } }],
    description: 'a plan',
    metadata: { account: '1' },
    payment_settings: { save_default_payment_method: 'on_subscription' },
    expand: [
      'latest_invoice.payments',
      'latest_invoice.confirmation_secret',
      'customer',
      'default_payment_method',
    ],
  });
  const { id } = subscription;
  const item = subscription.items.data[0]?.id ?? '';
  const upgrade = {
    items: [{ id: item, price: shop.builder }],
    proration_behavior: 'always_invoice' as const,
  };
  await stripe.invoices.createPreview({ subscription: id, subscription_details: upgrade });
  await stripe.subscriptions.update(id, { ...upgrade, expand: ['latest_invoice'] });
  await stripe.subscriptions.update(id, { items: [{ id: item, price: shop.starter }] });
  await stripe.invoiceItems.list({ customer });
  const added = await stripe.subscriptionItems.create({ subscription: id, price: shop.builder });
  await stripe.subscriptionItems.update(added.id, { quantity: 3, metadata: { more: 'yes' } });
  await stripe.subscriptionItems.retrieve(added.id);
  await stripe.subscriptionItems.del(added.id);
  await stripe.subscriptions.update(id, { items: [{ id: item, price: shop.yearly }] });
  await stripe.subscriptions.update(id, { cancel_at: 'min_period_end' });
  await stripe.subscriptions.update(id, { cancel_at: '' });
  await stripe.subscriptions.update(id, { cancel_at_period_end: true });
  await stripe.subscriptions.update(id, {
    cancel_at_period_end: false,
    pause_collection: { behavior: 'void' },
  });
  await stripe.subscriptions.update(id, {
    pause_collection: '',
    trial_end: 'now',
    days_until_due: 7,
    collection_method: 'send_invoice',
  });
  await stripe.subscriptions.cancel(id, {
    prorate: true,
    invoice_now: true,
    cancellation_details: { comment: 'too much', feedback: 'too_expensive' },
  });
  await stripe.subscriptions.update(id, { metadata: { over: 'yes' } });
  await stripe.customers.retrieve(customer, { expand: ['subscriptions', 'sources', 'tax_ids'] });
  const waiting = await stripe.subscriptions.create({
    customer: (await stripe.customers.create()).id,
    items: [{ price: shop.starter }],
    payment_behavior: 'default_incomplete',
    expand: ['latest_invoice.confirmation_secret'],
  });
  await stripe.subscriptions.cancel(waiting.id);
}

/** Trials, renewals, dunning to each of its ends, 3D Secure on renewal, a pause, and what runs out by itself. */
async function lifecycles(recorded: Recorded, shop: Shop): Promise<void> {
  const { stripe, hook } = recorded;
  const start = Date.parse('2028-01-31T12:00:00Z') / 1000;
  const { id: clock } = await stripe.testHelpers.testClocks.create({ frozen_time: start, name: 'leap' });
  const on = async (alias: string | null, rest: Partial<Stripe.SubscriptionCreateParams> = {}) => {
    const customer = await payer(recorded, alias, clock);
    return stripe.subscriptions.create({ customer, items: [{ price: shop.starter }], ...rest });
  };
  await on('visa', { trial_period_days: 10 });
  const sourceless = { trial_settings: { end_behavior: { missing_payment_method: 'pause' as const } } };
  const pausing = await on(null, { trial_period_days: 10, ...sourceless });
  await on(null, {
    trial_period_days: 10,
    trial_settings: { end_behavior: { missing_payment_method: 'cancel' } },
  });
  await on('visa', { cancel_at_period_end: true });
  await on('visa', { items: [{ price: shop.yearly }] });
  await on('visa', { collection_method: 'send_invoice', days_until_due: 5 });
  await on('chargeCustomerFail');
  await on('authenticationRequired');
  for (const [afterRetries, from] of [
    ['cancel', 0],
    ['unpaid', 40],
    ['past_due', 80],
  ] as const) {
    await hook('/billing_settings', { afterRetries });
    await advance(recorded, clock, start + (from + 1) * DAY);
    const failing = await on('visa');
    const asking = await on('visa');
    await giveCard(recorded, String(failing.customer), 'chargeCustomerFail');
    await giveCard(recorded, String(asking.customer), 'authenticationRequired');
    await advance(recorded, clock, start + (from + 40) * DAY);
    for (const { id } of [failing, asking]) {
      const { latest_invoice: latest } = await stripe.subscriptions.retrieve(id, {
        expand: ['latest_invoice.payments', 'latest_invoice.confirmation_secret'],
      });
      if (typeof latest !== 'string') await stripe.invoices.listLineItems(latest?.id ?? '');
    }
  }
  await giveCard(recorded, String(pausing.customer), 'visa');
  await stripe.subscriptions.resume(pausing.id);
  await advance(recorded, clock, start + 400 * DAY);
  await stripe.subscriptions.list({
    status: 'all',
    test_clock: clock,
    limit: 100,
    expand: ['data.latest_invoice'],
  });
  await stripe.testHelpers.testClocks.del(clock);
}

async function invoicesByHand(recorded: Recorded, shop: Shop): Promise<void> {
  const { stripe } = recorded;
  const customer = await payer(recorded);
  const draft = async (rest: Partial<Stripe.InvoiceCreateParams> = {}) => {
    const item = await stripe.invoiceItems.create({
      customer,
      amount: 700,
      currency: 'usd',
      description: 'work',
    });
    await stripe.invoiceItems.update(item.id, { description: 'more work', metadata: { a: 'b' } });
    await stripe.invoiceItems.create({ customer, pricing: { price: shop.pack }, quantity: 2 });
    return stripe.invoices.create({ customer, pending_invoice_items_behavior: 'include', ...rest });
  };
  const paid = await draft({ description: 'by hand', footer: 'Thank you', metadata: { a: 'b' } });
  await stripe.invoices.update(paid.id, { description: 'still by hand' });
  await stripe.invoices.finalizeInvoice(paid.id);
  await stripe.invoices.pay(paid.id, { expand: ['payments', 'customer'] });
  await stripe.invoices.voidInvoice((await stripe.invoices.finalizeInvoice((await draft()).id)).id);
  await stripe.invoices.markUncollectible((await stripe.invoices.finalizeInvoice((await draft()).id)).id);
  const sent = await draft({ collection_method: 'send_invoice', days_until_due: 10 });
  await stripe.invoices.sendInvoice(sent.id);
  await stripe.invoices.pay(sent.id, { paid_out_of_band: true });
  await refused(stripe.invoices.pay((await draft()).id, { payment_method: 'pm_card_chargeCustomerFail' }));
  await stripe.invoices.del((await draft()).id);
  const item = await stripe.invoiceItems.create({ customer, amount: -100, currency: 'usd' });
  await stripe.invoiceItems.retrieve(item.id);
  await stripe.invoiceItems.del(item.id);
}

async function schedules(recorded: Recorded, shop: Shop): Promise<void> {
  const { stripe } = recorded;
  const frozen_time = Date.parse('2027-03-31T00:00:00Z') / 1000;
  const { id: clock } = await stripe.testHelpers.testClocks.create({ frozen_time });
  const phases: Stripe.SubscriptionScheduleCreateParams.Phase[] = [
    { items: [{ price: shop.starter }], duration: { interval: 'month' } },
    { items: [{ price: shop.builder }], duration: { interval: 'month' }, proration_behavior: 'none' },
  ];
  const create = async (end_behavior: 'release' | 'cancel', start_date: number | 'now' = 'now') =>
    stripe.subscriptionSchedules.create({
      customer: await payer(recorded, 'visa', clock),
      start_date,
      end_behavior,
      phases,
    });
  await create('release');
  await create('cancel');
  const later = await create('release', frozen_time + DAY);
  await stripe.subscriptionSchedules.update(later.id, { metadata: { a: 'b' } });
  await stripe.subscriptionSchedules.cancel(later.id);
  const running = await stripe.subscriptions.create({
    customer: await payer(recorded),
    items: [{ price: shop.builder }],
  });
  const booked = await stripe.subscriptionSchedules.create({ from_subscription: running.id });
  const [now] = booked.phases;
  await stripe.subscriptionSchedules.update(booked.id, {
    phases: [
      { items: [{ price: shop.builder }], start_date: now?.start_date ?? 0, end_date: now?.end_date ?? 0 },
      { items: [{ price: shop.starter }], duration: { interval: 'month' } },
    ],
  });
  await stripe.subscriptions.retrieve(running.id, { expand: ['schedule'] });
  await stripe.subscriptionSchedules.release(booked.id);
  await advance(recorded, clock, frozen_time + 100 * DAY);
  await stripe.subscriptionSchedules.list({ limit: 100 });
}

async function checkouts(recorded: Recorded, shop: Shop, clock: { ms: number }): Promise<void> {
  const { stripe, hook, localStripe } = recorded;
  const open = (rest: Partial<Stripe.Checkout.SessionCreateParams>) =>
    stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: shop.builder, quantity: 1 }],
      success_url: 'https://app.test/ok?session_id={CHECKOUT_SESSION_ID}',
      cancel_url: 'https://app.test/no',
      client_reference_id: 'account_1',
      metadata: { kind: 'plan' },
      ...rest,
    });
  const pay = (id: string, payment_method: string) =>
    fetch(`${localStripe.url}/v1/payment_pages/${id}/confirm`, {
      method: 'POST',
      headers: { authorization: 'Bearer sk_test_123', 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ payment_method }),
    });
  const expand = ['line_items', 'subscription', 'invoice', 'customer', 'payment_intent', 'setup_intent'];
  const read = (id: string) => stripe.checkout.sessions.retrieve(id, { expand });
  const pack = { mode: 'payment' as const, line_items: [{ price: shop.pack, quantity: 2 }] };

  const plain = await open({ customer: await payer(recorded), subscription_data: { metadata: { a: 'b' } } });
  await pay(plain.id, 'pm_card_chargeDeclined');
  await pay(plain.id, 'pm_card_visa');
  await read(plain.id);
  await stripe.checkout.sessions.listLineItems(plain.id);
  const trial = await open({
    customer_email: 'new@example.test',
    subscription_data: { trial_period_days: 14 },
  });
  await pay(trial.id, 'pm_card_visa');
  await read(trial.id);
  const sourceless = await open({
    payment_method_collection: 'if_required',
    subscription_data: { trial_period_days: 14 },
  });
  await pay(sourceless.id, 'pm_card_visa');
  const once = await open({
    ...pack,
    payment_intent_data: { metadata: { a: 'b' }, setup_future_usage: 'off_session' },
  });
  await pay(once.id, 'pm_card_authenticationRequired');
  const asked = (await stripe.paymentIntents.list({ limit: 1 })).data[0]?.id ?? '';
  await hook(`/payment_intents/${asked}/authenticate`, { outcome: 'succeed' });
  await read(once.id);
  const guest = await open({ ...pack, customer_creation: 'always', submit_type: 'pay' });
  await pay(guest.id, 'pm_card_visa');
  await read(guest.id);
  for (const outcome of ['succeed', 'fail'])
    for (const mode of [pack, {}]) {
      const delayed = await open({ ...mode, allowed_payment_method_types: ['us_bank_account'] });
      const account = await stripe.paymentMethods.create({
        type: 'us_bank_account',
        us_bank_account: {
          routing_number: '110000000',
          account_number: '000123456789',
          account_holder_type: 'company',
        },
      });
      await pay(delayed.id, account.id);
      await read(delayed.id);
      const intent = (await stripe.paymentIntents.list({ limit: 1 })).data[0]?.id ?? '';
      await hook(`/payment_intents/${intent}/settle`, { outcome });
      await read(delayed.id);
    }
  await stripe.checkout.sessions.expire((await open({})).id);
  await open({ expires_at: Math.floor(clock.ms / 1000) + 1_900 });
  await hook('/clock', { skipSeconds: 2 * DAY });
  await stripe.checkout.sessions.list({ limit: 100 });
}

async function portal(recorded: Recorded, shop: Shop): Promise<void> {
  const { stripe } = recorded;
  const { product } = await stripe.prices.retrieve(shop.starter);
  const configuration = await stripe.billingPortal.configurations.create({
    name: 'Plans',
    business_profile: {
      headline: 'Plans',
      privacy_policy_url: 'https://app.test/p',
      terms_of_service_url: 'https://app.test/t',
    },
    default_return_url: 'https://app.test/',
    features: {
      customer_update: { enabled: true, allowed_updates: ['email'] },
      invoice_history: { enabled: true },
      payment_method_update: { enabled: true },
      subscription_cancel: {
        enabled: true,
        mode: 'at_period_end',
        cancellation_reason: { enabled: true, options: ['unused'] },
      },
      subscription_update: {
        enabled: true,
        default_allowed_updates: ['price'],
        proration_behavior: 'always_invoice',
        products: [{ product: String(product), prices: [shop.starter, shop.builder] }],
        schedule_at_period_end: { conditions: [{ type: 'decreasing_item_amount' }] },
      },
    },
    metadata: { a: 'b' },
  });
  await stripe.billingPortal.configurations.update(configuration.id, { active: false });
  await stripe.billingPortal.configurations.update(configuration.id, { active: true });
  await stripe.billingPortal.configurations.retrieve(configuration.id);
  const customer = await payer(recorded);
  await stripe.subscriptions.create({ customer, items: [{ price: shop.starter }] });
  const link = {
    customer,
    configuration: configuration.id,
    return_url: 'https://app.test/account',
    locale: 'en' as const,
  };
  const { url } = await stripe.billingPortal.sessions.create(link);
  const visit = (await fetch(url, { redirect: 'manual' })).headers.get('location') ?? '';
  const at = new URL(visit, url).href;
  const post = (path: string, fields: Record<string, string>) =>
    fetch(`${at}${path}`, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' });
  for (const price of [shop.builder, shop.starter, shop.builder]) await expectMoved(post('/plan', { price }));
  await expectMoved(post('/cancel', {}));
  await expectMoved(post('/keep', {}));
  await stripe.subscriptions.list({ customer });
  await stripe.subscriptionSchedules.list({ customer });
  await stripe.billingPortal.sessions.create({ customer });
}

async function endings({ stripe }: Recorded): Promise<void> {
  const { id } = await stripe.customers.create();
  await stripe.customers.del(id);
  await stripe.customers.retrieve(id);
  await stripe.products.del((await stripe.products.create({ name: 'never sold' })).id);
  const endpoint = await stripe.webhookEndpoints.create({
    url: 'http://127.0.0.1:9/',
    enabled_events: ['invoice.paid'],
  });
  await stripe.webhookEndpoints.update(endpoint.id, {
    disabled: true,
    description: 'off',
    metadata: { a: 'b' },
  });
  await stripe.webhookEndpoints.retrieve(endpoint.id);
  await stripe.webhookEndpoints.del(endpoint.id);
}

/** Everything kept, through its list and by its id. */
async function readAll({ stripe }: Recorded): Promise<void> {
  const limit = 100;
  for (const { id } of (await stripe.charges.list({ limit })).data) await stripe.charges.retrieve(id);
  for (const { id } of (await stripe.balanceTransactions.list({ limit })).data)
    await stripe.balanceTransactions.retrieve(id);
  for (const { id } of (await stripe.invoicePayments.list({ limit, expand: ['data.invoice'] })).data)
    await stripe.invoicePayments.retrieve(id);
  for (const { id } of (await stripe.subscriptions.list({ limit, status: 'all' })).data)
    await stripe.subscriptionItems.list({ subscription: id });
  for await (const { id } of stripe.events.list({ limit }))
    if (id.endsWith('0')) await stripe.events.retrieve(id);
  await Promise.all([
    stripe.billingPortal.configurations.list({ limit }),
    stripe.customers.list({ limit }),
    stripe.disputes.list({ limit }),
    stripe.invoiceItems.list({ limit }),
    stripe.invoices.list({ limit, expand: ['data.payments', 'data.lines'] }),
    stripe.paymentIntents.list({ limit }),
    stripe.paymentMethods.list({ limit }),
    stripe.prices.list({ limit, expand: ['data.product'] }),
    stripe.products.list({ limit }),
    stripe.refunds.list({ limit }),
    stripe.setupIntents.list({ limit }),
    stripe.testHelpers.testClocks.list({ limit }),
    stripe.webhookEndpoints.list({ limit }),
  ]);
}

async function payer(
  { stripe }: Recorded,
  alias: string | null = 'visa',
  test_clock?: string,
): Promise<string> {
  const method = `pm_card_${alias}`;
  const { id } = await stripe.customers.create({
    email: 'jo@example.test',
    ...(test_clock === undefined ? {} : { test_clock }),
    ...(alias === null
      ? {}
      : { payment_method: method, invoice_settings: { default_payment_method: method } }),
  });
  return id;
}

async function giveCard({ stripe }: Recorded, customer: string, alias: string): Promise<void> {
  const { id } = await stripe.paymentMethods.attach(`pm_card_${alias}`, { customer });
  await stripe.customers.update(customer, { invoice_settings: { default_payment_method: id } });
}

async function advance({ stripe }: Recorded, clock: string, frozen_time: number): Promise<void> {
  await stripe.testHelpers.testClocks.advance(clock, { frozen_time });
  await eventually(
    'clock ready',
    async () => (await stripe.testHelpers.testClocks.retrieve(clock)).status === 'ready',
  );
}

async function refused(call: Promise<unknown>): Promise<void> {
  const answer = await call.then(
    () => 'taken',
    () => 'refused',
  );
  if (answer === 'taken') throw new Error('the call was not refused');
}

async function expectMoved(answer: Promise<Response>): Promise<void> {
  const { status, url } = await answer;
  if (status !== 303) throw new Error(`${url} answered ${status}`);
}

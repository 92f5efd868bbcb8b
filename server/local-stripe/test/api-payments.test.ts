import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { localStripeWithClient, refusal } from './support/api.ts';

const pay = (method: string, rest: Partial<Stripe.PaymentIntentCreateParams> = {}) => ({
  amount: 2_000,
  currency: 'usd',
  confirm: true,
  payment_method: method,
  ...rest,
});

async function eventTypes(stripe: Stripe): Promise<string[]> {
  const events = await stripe.events.list({ limit: 100 });
  return events.data.map(({ type }) => type).reverse();
}

describe('test cards', () => {
  it('succeed: a charge, a balance transaction and the events in Stripe’s order', async () => {
    const { stripe } = await localStripeWithClient();
    const intent = await stripe.paymentIntents.create(
      pay('pm_card_visa', { expand: ['latest_charge.balance_transaction', 'payment_method'] }),
    );
    expect(intent).toMatchObject({
      status: 'succeeded',
      amount_received: 2_000,
      payment_method: { card: { last4: '4242', brand: 'visa' } },
      latest_charge: { paid: true, balance_transaction: { amount: 2_000, fee: 88, net: 1_912 } },
    });
    expect(await eventTypes(stripe)).toEqual([
      'payment_intent.created',
      'charge.succeeded',
      'payment_intent.succeeded',
    ]);
  });

  it.each([
    ['4000000000000002', 'card_declined', 'generic_decline'],
    ['4000000000009995', 'card_declined', 'insufficient_funds'],
    ['4000000000000069', 'expired_card', 'expired_card'],
    ['4000000000000127', 'incorrect_cvc', 'incorrect_cvc'],
    ['4000000000000119', 'processing_error', 'processing_error'],
  ])('%s is declined with %s, %s, and the attempt stays on record', async (number, code, declineCode) => {
    const { stripe } = await localStripeWithClient();
    const method = await stripe.paymentMethods.create({
      type: 'card',
      card: { number, exp_month: 12, exp_year: 2040, cvc: '123' },
    });
    const error = await refusal(stripe.paymentIntents.create(pay(method.id)));
    expect(error).toMatchObject({ statusCode: 402, rawType: 'card_error', code, decline_code: declineCode });
    const intent = await stripe.paymentIntents.retrieve(String(error.payment_intent?.id));
    expect(intent).toMatchObject({
      status: 'requires_payment_method',
      payment_method: null,
      last_payment_error: { code, decline_code: declineCode, payment_method: { id: method.id } },
    });
    expect(await stripe.charges.retrieve(String(intent.latest_charge))).toMatchObject({
      status: 'failed',
      paid: false,
    });
    expect(await eventTypes(stripe)).toEqual([
      'payment_intent.created',
      'charge.failed',
      'payment_intent.payment_failed',
    ]);
    const paid = await stripe.paymentIntents.confirm(intent.id, { payment_method: 'pm_card_mastercard' });
    expect(paid).toMatchObject({ status: 'succeeded', last_payment_error: null });
  });

  it('4000000000000341 attaches to a customer but fails when charged; a declined card does not attach', async () => {
    const { stripe } = await localStripeWithClient();
    const { id: customer } = await stripe.customers.create();
    const attached = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer });
    expect(attached.customer).toBe(customer);
    expect(await refusal(stripe.paymentIntents.create(pay(attached.id, { customer })))).toMatchObject({
      code: 'card_declined',
    });
    expect(await refusal(stripe.paymentMethods.attach('pm_card_chargeDeclined', { customer }))).toMatchObject(
      {
        statusCode: 402,
        code: 'card_declined',
      },
    );
    expect((await stripe.paymentMethods.list({ customer })).data).toHaveLength(1);
  });

  it('asks for 3D Secure, which succeeds or fails, and declines where nobody is there to pass it', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const method = 'pm_card_authenticationRequired';
    const waiting = await stripe.paymentIntents.create(pay(method, { return_url: 'http://127.0.0.1/back' }));
    expect(waiting).toMatchObject({ status: 'requires_action', next_action: { type: 'redirect_to_url' } });
    await hook(`/payment_intents/${waiting.id}/authenticate`, { outcome: 'succeed' });
    expect(await stripe.paymentIntents.retrieve(waiting.id)).toMatchObject({ status: 'succeeded' });
    const second = await stripe.paymentIntents.create(pay(method));
    const failed = await hook(`/payment_intents/${second.id}/authenticate`, { outcome: 'fail' });
    expect(failed.json).toMatchObject({
      status: 'requires_payment_method',
      last_payment_error: { code: 'payment_intent_authentication_failure' },
    });
    const again = await hook(`/payment_intents/${second.id}/authenticate`, { outcome: 'succeed' });
    expect(again).toMatchObject({
      status: 400,
      json: { error: { code: 'payment_intent_unexpected_state' } },
    });
    const offSession = await refusal(stripe.paymentIntents.create(pay(method, { off_session: true })));
    expect(offSession).toMatchObject({ statusCode: 402, code: 'authentication_required' });
  });

  it('4000002500003155 needs 3D Secure only until it was set up', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const { id: customer } = await stripe.customers.create();
    const setup = await stripe.setupIntents.create({
      customer,
      confirm: true,
      payment_method: 'pm_card_authenticationRequiredOnSetup',
    });
    expect(setup.status).toBe('requires_action');
    await hook(`/setup_intents/${setup.id}/authenticate`, { outcome: 'succeed' });
    const [method] = (await stripe.paymentMethods.list({ customer })).data;
    const intent = await stripe.paymentIntents.create(
      pay(String(method?.id), { customer, off_session: true }),
    );
    expect(intent.status).toBe('succeeded');
  });

  it('a number that is no test card is refused, and a past expiry too', async () => {
    const { stripe } = await localStripeWithClient();
    const make = (number: string, exp_year: number) =>
      refusal(stripe.paymentMethods.create({ type: 'card', card: { number, exp_month: 1, exp_year } }));
    expect(await make('4111111111111111', 2040)).toMatchObject({ statusCode: 402, code: 'incorrect_number' });
    expect(await make('4242424242424242', 2020)).toMatchObject({
      statusCode: 402,
      code: 'invalid_expiry_year',
    });
  });

  it('one ordered decline refuses a good card once', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const { id: customer } = await stripe.customers.create({ payment_method: 'pm_card_visa' });
    const [method] = (await stripe.paymentMethods.list({ customer })).data;
    await hook(`/customers/${customer}/decline_next`, { decline: 'insufficient_funds' });
    const charge = () => stripe.paymentIntents.create(pay(String(method?.id), { customer }));
    expect(await refusal(charge())).toMatchObject({ decline_code: 'insufficient_funds' });
    expect((await charge()).status).toBe('succeeded');
  });
});

describe('bank debits', () => {
  const debit = async (stripe: Stripe, iban: string) => {
    const method = await stripe.paymentMethods.create({
      type: 'sepa_debit',
      sepa_debit: { iban },
      billing_details: { name: 'Jo', email: 'jo@example.com' },
    });
    return stripe.paymentIntents.create(
      pay(method.id, { currency: 'eur', allowed_payment_method_types: ['sepa_debit'] }),
    );
  };

  it('are processing first and settle when their time has come, well or badly by IBAN', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const good = await debit(stripe, 'AT61 1904 3002 3457 3201');
    const bad = await debit(stripe, 'AT861904300235473202');
    expect([good.status, bad.status]).toEqual(['processing', 'processing']);
    await hook('/clock', { skipSeconds: 5 });
    expect((await stripe.paymentIntents.retrieve(good.id)).status).toBe('succeeded');
    expect(await stripe.paymentIntents.retrieve(bad.id)).toMatchObject({
      status: 'requires_payment_method',
      last_payment_error: { code: 'payment_intent_payment_attempt_failed' },
    });
    expect(await eventTypes(stripe)).toEqual(
      expect.arrayContaining([
        'payment_intent.processing',
        'charge.pending',
        'charge.succeeded',
        'charge.failed',
      ]),
    );
  });

  it.each([
    ['000123456789', 'succeeded'],
    ['000222222227', 'requires_payment_method'],
  ])('in dollars from the US account %s end as %s', async (account_number, status) => {
    const { stripe, hook } = await localStripeWithClient();
    const account = (routing_number: string) =>
      stripe.paymentMethods.create({
        type: 'us_bank_account',
        us_bank_account: { routing_number, account_number, account_holder_type: 'individual' },
      });
    expect(await refusal(account('1'))).toMatchObject({ code: 'routing_number_invalid' });
    const { id: payment_method, us_bank_account: bank } = await account('110000000');
    expect(bank).toMatchObject({ last4: account_number.slice(-4), routing_number: '110000000' });
    const euros = { amount: 100, currency: 'eur', confirm: true, payment_method };
    expect((await refusal(stripe.paymentIntents.create(euros))).statusCode).toBe(400);
    const { id, status: at } = await stripe.paymentIntents.create(pay(payment_method));
    expect(at).toBe('processing');
    await hook('/clock', { skipSeconds: 5 });
    expect((await stripe.paymentIntents.retrieve(id)).status).toBe(status);
  });

  it('can be settled at once by a hook, and only once', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const { id } = await debit(stripe, 'AT321904300235473204');
    expect((await hook(`/payment_intents/${id}/settle`, { outcome: 'fail' })).json).toMatchObject({
      status: 'requires_payment_method',
    });
    expect((await hook(`/payment_intents/${id}/settle`, { outcome: 'succeed' })).status).toBe(400);
    await hook('/clock', { skipSeconds: 600 });
    expect((await stripe.paymentIntents.retrieve(id)).status).toBe('requires_payment_method');
  });
});

describe('refunds and disputes', () => {
  it('give back parts up to the whole and no more', async () => {
    const { stripe } = await localStripeWithClient();
    const intent = await stripe.paymentIntents.create(pay('pm_card_visa'));
    const part = await stripe.refunds.create({ payment_intent: intent.id, amount: 500 });
    expect(part).toMatchObject({ amount: 500, status: 'succeeded', charge: intent.latest_charge });
    expect(await refusal(stripe.refunds.create({ payment_intent: intent.id, amount: 1_501 }))).toMatchObject({
      param: 'amount',
    });
    await stripe.refunds.create({ charge: String(intent.latest_charge) });
    expect(await refusal(stripe.refunds.create({ payment_intent: intent.id }))).toMatchObject({
      code: 'charge_already_refunded',
    });
    const charge = await stripe.charges.retrieve(String(intent.latest_charge), { expand: ['refunds'] });
    expect(charge).toMatchObject({ refunded: true, amount_refunded: 2_000 });
    expect(charge.refunds?.data.map(({ amount }) => amount)).toEqual([1_500, 500]);
    const told = await stripe.events.list({ type: 'charge.refunded' });
    expect(told.data.map(({ data }) => data.previous_attributes)).toEqual([
      { amount_refunded: 500, refunded: false },
      { amount_refunded: 0 },
    ]);
  });

  it('a refund can fail later, and the charge is as before', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const intent = await stripe.paymentIntents.create(pay('pm_card_visa'));
    const refund = await stripe.refunds.create({ payment_intent: intent.id });
    await hook(`/refunds/${refund.id}/fail`, {});
    expect(await stripe.refunds.retrieve(refund.id)).toMatchObject({ status: 'failed' });
    expect(await stripe.charges.retrieve(String(intent.latest_charge))).toMatchObject({ amount_refunded: 0 });
    expect(await eventTypes(stripe)).toContain('refund.failed');
  });

  it('a dispute that is lost keeps the money and the fee', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const intent = await stripe.paymentIntents.create(pay('pm_card_createDispute'));
    const [dispute] = (await stripe.disputes.list({ payment_intent: intent.id })).data;
    await hook(`/disputes/${dispute?.id}/close`, { outcome: 'lost' });
    const lost = await stripe.disputes.retrieve(String(dispute?.id));
    expect(lost).toMatchObject({ status: 'lost', balance_transactions: [{ amount: -2_000, fee: 1_500 }] });
    expect((await eventTypes(stripe)).at(-1)).toBe('charge.dispute.closed');
    expect((await hook(`/disputes/${dispute?.id}/close`, { outcome: 'won' })).status).toBe(400);
  });

  it('a dispute opens, is won, and bars refunds', async () => {
    const { stripe, hook } = await localStripeWithClient();
    const intent = await stripe.paymentIntents.create(pay('pm_card_visa'));
    const charge = String(intent.latest_charge);
    const opened = await hook(`/charges/${charge}/dispute`, { reason: 'product_not_received' });
    expect(opened.json).toMatchObject({
      object: 'dispute',
      status: 'needs_response',
      reason: 'product_not_received',
    });
    expect((await stripe.charges.retrieve(charge)).disputed).toBe(true);
    expect(await refusal(stripe.refunds.create({ charge }))).toMatchObject({ code: 'charge_disputed' });
    expect((await hook(`/charges/${charge}/dispute`, {})).status).toBe(400);
    const [dispute] = (await stripe.disputes.list({ charge })).data;
    await hook(`/disputes/${dispute?.id}/close`, { outcome: 'won' });
    expect(await stripe.disputes.retrieve(String(dispute?.id))).toMatchObject({ status: 'won' });
    expect((await eventTypes(stripe)).slice(-4)).toEqual([
      'charge.dispute.created',
      'charge.dispute.funds_withdrawn',
      'charge.dispute.closed',
      'charge.dispute.funds_reinstated',
    ]);
  });
});

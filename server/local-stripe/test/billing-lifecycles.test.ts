import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { cancelSubscription } from '../billing/cancel.ts';
import { changeSubscription, NO_CHANGE } from '../billing/change.ts';
import { collectInvoice } from '../billing/collect.ts';
import { paymentIntentOf } from '../billing/invoice-payments.ts';
import { resumeSubscription } from '../billing/resume.ts';
import { setBillingSettings } from '../billing/settings.ts';
import { finalizeAndCollect } from '../billing/start.ts';
import { completeAuthentication } from '../payments.ts';
import { deleteCustomer } from '../resources/customers.ts';
import {
  billingWorld,
  customer,
  giveCard,
  iso,
  period,
  price,
  seconds,
  subscribe,
} from './support/billing.ts';

describe('renewal', () => {
  it('moves the period, bills it and tells it in order', () => {
    const { world, travel, told } = billingWorld('2026-01-31T10:00:00Z');
    const { id } = subscribe(world, price(world, 2_900));
    told();
    travel('2026-02-28T10:00:00Z');
    expect(told()).toEqual([
      'invoice.upcoming',
      'customer.subscription.updated',
      'invoice.created',
      'invoice.finalized',
      'payment_intent.created',
      'charge.succeeded',
      'payment_intent.succeeded',
      'invoice_payment.paid',
      'invoice.paid',
      'invoice.payment_succeeded',
    ]);
    expect(period(world.get('subscription', id))).toBe('2026-02-28T10:00..2026-03-31T10:00');
  });

  it('keeps the 31st over a year, with a leap day, and bills twelve times', () => {
    const { world, travel } = billingWorld('2027-12-31T00:00:00Z');
    const { id, customer: owner } = subscribe(world, price(world, 100));
    travel('2028-02-29T00:00:00Z');
    expect(period(world.get('subscription', id))).toBe('2028-02-29T00:00..2028-03-31T00:00');
    travel('2028-12-31T00:00:00Z');
    const paid = world.ofCustomer('invoice', String(owner)).filter(({ status }) => status === 'paid');
    expect(paid).toHaveLength(13);
  });

  it('renews a year from 29 February on the last day of February', () => {
    const { world, travel } = billingWorld('2028-02-29T00:00:00Z');
    const { id } = subscribe(world, price(world, 990_00, 'year'));
    travel('2029-02-28T00:00:00Z');
    expect(period(world.get('subscription', id))).toBe('2029-02-28T00:00..2030-02-28T00:00');
  });

  it('tells previous_attributes with the old period only', () => {
    const { world, travel, events } = billingWorld('2026-05-01T00:00:00Z');
    const { items } = subscribe(world, price(world, 100));
    travel('2026-06-01T00:00:00Z');
    const updated = events.find(({ type }) => type === 'customer.subscription.updated');
    expect(Object.keys(updated?.data.previous_attributes ?? {}).toSorted()).toEqual([
      'items',
      'latest_invoice',
    ]);
    expect(updated?.data.previous_attributes).toMatchObject({ items });
  });
});

describe('a renewal that fails', () => {
  it('is past_due, retried after 3, 5 and 7 days, then canceled', () => {
    const { world, travel, events } = billingWorld('2026-05-01T00:00:00Z');
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    travel('2026-06-01T00:00:00Z');
    expect(world.get('subscription', id).status).toBe('past_due');
    travel('2026-06-30T00:00:00Z');
    const failures = events.filter(({ type }) => type === 'invoice.payment_failed');
    expect(failures.map(({ created }) => iso(created).slice(0, 10))).toEqual([
      '2026-06-01',
      '2026-06-04',
      '2026-06-09',
      '2026-06-16',
    ]);
    expect(world.get('subscription', id)).toMatchObject({
      status: 'canceled',
      cancellation_details: { reason: 'payment_failed' },
    });
  });

  it('tries a bank account as often, each time after its debit has come back', () => {
    const { world, travel, events } = billingWorld('2026-05-01T00:00:00Z');
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_usBankAccount_insufficientFunds');
    events.length = 0;
    travel('2026-07-01T00:00:00Z');
    const failures = events.filter(({ type }) => type === 'invoice.payment_failed');
    const told = failures.map(({ data }) => data.object as Stripe.Invoice);
    expect(told.map(({ attempt_count }) => attempt_count)).toEqual([1, 2, 3, 4]);
    // Never a time that has passed: what is to come, or nothing.
    expect(told.map(({ next_payment_attempt: at }) => at && iso(at).slice(0, 10))).toEqual([
      '2026-06-04',
      '2026-06-09',
      '2026-06-16',
      null,
    ]);
    expect(world.get('subscription', id)).toMatchObject({
      status: 'canceled',
      cancellation_details: { reason: 'payment_failed' },
    });
  });

  it('becomes unpaid where so configured, bills drafts from then on, and active once paid', () => {
    const { world, travel } = billingWorld('2026-05-01T00:00:00Z');
    setBillingSettings(world, { afterRetries: 'unpaid' });
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    travel('2026-06-20T00:00:00Z');
    expect(world.get('subscription', id).status).toBe('unpaid');
    travel('2026-07-01T00:00:00Z');
    const { latest_invoice: latest } = world.get('subscription', id);
    expect(world.get('invoice', String(latest))).toMatchObject({ status: 'draft', auto_advance: false });
    giveCard(world, owner, 'pm_card_visa');
    finalizeAndCollect(world, String(latest), false);
    expect(world.get('subscription', id).status).toBe('active');
  });

  it('recovers with the next retry when the card is good again', () => {
    const { world, travel } = billingWorld('2026-05-01T00:00:00Z');
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    travel('2026-06-02T00:00:00Z');
    giveCard(world, owner, 'pm_card_visa');
    travel('2026-06-04T00:00:00Z');
    expect(world.get('subscription', id).status).toBe('active');
    expect(world.ofCustomer('invoice', owner).at(-1)).toMatchObject({ status: 'paid', attempt_count: 2 });
  });

  it('stays past_due while only an older invoice is paid, and tells each change after its cause', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    setBillingSettings(world, { afterRetries: 'past_due' });
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    travel('2026-07-01T00:00:00Z');
    giveCard(world, owner, 'pm_card_visa');
    const [older, latest] = world.ofCustomer('invoice', owner).filter(({ status }) => status === 'open');
    const attempt = { paymentMethod: null, offSession: false, automatic: false };
    collectInvoice(world, older?.id ?? '', attempt);
    expect(world.get('subscription', id).status).toBe('past_due');
    told();
    collectInvoice(world, latest?.id ?? '', attempt);
    expect(world.get('subscription', id).status).toBe('active');
    expect(told().slice(-4)).toEqual([
      'invoice_payment.paid',
      'invoice.paid',
      'customer.subscription.updated',
      'invoice.payment_succeeded',
    ]);
  });

  it('asks for authentication, and is active once the customer gave it', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    const owner = customer(world);
    const { id } = subscribe(world, price(world, 2_900), { customer: owner });
    giveCard(world, owner, 'pm_card_authenticationRequired');
    told();
    travel('2026-06-01T00:00:00Z');
    expect(told()).toEqual(
      expect.arrayContaining(['invoice.payment_failed', 'invoice.payment_action_required']),
    );
    const { latest_invoice: invoice } = world.get('subscription', id);
    collectInvoice(world, String(invoice), { paymentMethod: null, offSession: false, automatic: false });
    completeAuthentication(world, String(paymentIntentOf(world, String(invoice))?.id), 'succeed');
    expect(world.get('subscription', id).status).toBe('active');
  });
});

describe('a first payment that fails', () => {
  it('leaves the subscription incomplete, which expires after 23 hours with its invoice void', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    const { id, latest_invoice: invoice } = subscribe(world, price(world, 100), {
      customer: customer(world, 'pm_card_chargeCustomerFail'),
    });
    expect(told().slice(-4)).toEqual([
      'customer.subscription.created',
      'invoice.created',
      'invoice.finalized',
      'invoice.payment_failed',
    ]);
    expect(world.get('subscription', id).status).toBe('incomplete');
    travel('2026-05-01T23:00:00Z');
    expect(world.get('subscription', id).status).toBe('incomplete_expired');
    expect(world.get('invoice', String(invoice)).status).toBe('void');
  });
});

describe('a trial', () => {
  it('warns three days before its end, then bills and is active', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    const { id } = subscribe(world, price(world, 2_900), { trialEnd: '2026-05-15T00:00:00Z' });
    expect(told().slice(-5)).toEqual([
      'customer.subscription.created',
      'invoice.created',
      'invoice.finalized',
      'invoice.paid',
      'invoice.payment_succeeded',
    ]);
    travel('2026-05-12T00:00:00Z');
    expect(told()).toEqual(['invoice.upcoming', 'customer.subscription.trial_will_end']);
    travel('2026-05-15T00:00:00Z');
    const active = world.get('subscription', id);
    expect(active.status).toBe('active');
    expect(period(active)).toBe('2026-05-15T00:00..2026-06-15T00:00');
    expect(world.get('invoice', String(active.latest_invoice)).amount_paid).toBe(2_900);
  });

  it.each([
    ['pause', 'paused'],
    ['cancel', 'canceled'],
    ['create_invoice', 'past_due'],
  ] as const)('without a payment method and missing_payment_method %s ends %s', (missing, status) => {
    const { world, travel } = billingWorld('2026-05-01T00:00:00Z');
    const { id } = subscribe(world, price(world, 2_900), {
      customer: customer(world, null),
      trialEnd: '2026-05-15T00:00:00Z',
      fields: {
        trial_settings: { end_behavior: { billing_cycle_anchor: null, missing_payment_method: missing } },
      },
    });
    travel('2026-05-15T00:00:00Z');
    expect(world.get('subscription', id).status).toBe(status);
  });

  it('that paused resumes once there is a card', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    const owner = customer(world, null);
    const { id } = subscribe(world, price(world, 2_900), {
      customer: owner,
      trialEnd: '2026-05-15T00:00:00Z',
      fields: {
        trial_settings: { end_behavior: { billing_cycle_anchor: null, missing_payment_method: 'pause' } },
      },
    });
    travel('2026-05-20T00:00:00Z');
    // Why and since when, in the words of Stripe's own type.
    expect(world.get('subscription', id)).toMatchObject({
      status: 'paused',
      status_details: {
        paused: {
          subscription: { type: 'trial_end_without_payment_method' },
          transitioned_at: seconds('2026-05-15T00:00:00Z'),
        },
      },
    });
    giveCard(world, owner, 'pm_card_visa');
    told();
    resumeSubscription(world, id, 'now');
    expect(period(world.get('subscription', id))).toBe('2026-05-20T00:00..2026-06-20T00:00');
    expect(world.get('subscription', id).status).toBe('active');
    expect(told()).toContain('customer.subscription.resumed');
  });

  it('ended now bills at once', () => {
    const { world, travel } = billingWorld('2026-05-01T00:00:00Z');
    const { id } = subscribe(world, price(world, 2_900), { trialEnd: '2026-05-15T00:00:00Z' });
    travel('2026-05-05T00:00:00Z');
    const active = changeSubscription(world, id, { ...NO_CHANGE, trialEnd: 'now' });
    expect(active).toMatchObject({ status: 'active', trial_end: seconds('2026-05-05T00:00:00Z') });
    expect(world.get('invoice', String(active.latest_invoice)).amount_paid).toBe(2_900);
  });
});

describe('an ending subscription', () => {
  it('with cancel_at at the period end is not renewed', () => {
    const { world, travel, told } = billingWorld('2026-05-01T00:00:00Z');
    const { id } = subscribe(world, price(world, 2_900));
    changeSubscription(world, id, { ...NO_CHANGE, fields: { cancel_at: seconds('2026-06-01T00:00:00Z') } });
    told();
    travel('2026-07-01T00:00:00Z');
    expect(told()).toEqual(['customer.subscription.deleted']);
    expect(world.get('subscription', id)).toMatchObject({
      status: 'canceled',
      ended_at: seconds('2026-06-01T00:00:00Z'),
    });
  });

  it('is refused a second cancellation as missing', () => {
    const { world } = billingWorld('2026-05-01T00:00:00Z');
    const { id } = subscribe(world, price(world, 2_900));
    const now = { prorate: false, invoiceNow: false, details: {} };
    cancelSubscription(world, id, now);
    expect(() => cancelSubscription(world, id, now)).toThrow(`No such subscription: '${id}'`);
  });

  it('credits unused time when canceled with prorate and invoice_now', () => {
    const { world, travel } = billingWorld('2026-06-01T00:00:00Z');
    const { id, customer: owner } = subscribe(world, price(world, 3_000));
    travel('2026-06-11T00:00:00Z');
    cancelSubscription(world, id, { prorate: true, invoiceNow: true, details: {} });
    expect(world.get('customer', String(owner))).toMatchObject({ balance: -2_000 });
  });

  it('ends with its customer', () => {
    const { world } = billingWorld('2026-06-01T00:00:00Z');
    const { id, customer: owner } = subscribe(world, price(world, 3_000));
    deleteCustomer(world, String(owner));
    expect(world.get('subscription', id).status).toBe('canceled');
  });
});

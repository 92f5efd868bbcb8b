import { describe, expect, it } from 'vitest';
import { createPrice } from '../catalogue.ts';
import { createTestPaymentMethod } from '../payment-methods.ts';
import {
  portalCancel,
  portalChangePlan,
  portalKeep,
  portalPayInvoice,
  portalSetDefaultPaymentMethod,
  previewPlanChange,
} from '../portal/actions.ts';
import { createPortalSession, redeemPortalLink } from '../portal/sessions.ts';
import { portalView } from '../portal/view.ts';
import { billingWorld, customer, giveCard, period, price, seconds, subscribe } from './support/billing.ts';

function atThePortal() {
  const billing = billingWorld('2026-06-01T00:00:00Z');
  const { world } = billing;
  const small = price(world, 3_000, 'month', 'small');
  const middle = price(world, 9_000, 'month', 'middle');
  const big = price(world, 30_000, 'month', 'big');
  const annual = price(world, 90_000, 'year', 'middle_annual');
  const owner = customer(world);
  const { id } = subscribe(world, middle, { customer: owner });
  const subscription = () => world.get('subscription', id);
  const visit = () => {
    const session = createPortalSession(world, {
      customer: owner,
      configuration: null,
      returnUrl: null,
      locale: null,
      flow: null,
    });
    return redeemPortalLink(world, session.url.split('/').at(-1) ?? '').visit;
  };
  billing.told();
  return { ...billing, small, middle, big, annual, owner, id, subscription, visit };
}

describe('a portal link', () => {
  it('opens once, and not after five minutes', () => {
    const { world, owner, travel } = atThePortal();
    const mint = () =>
      createPortalSession(world, {
        customer: owner,
        configuration: null,
        returnUrl: null,
        locale: null,
        flow: null,
      })
        .url.split('/')
        .at(-1) ?? '';
    const used = mint();
    redeemPortalLink(world, used);
    expect(() => redeemPortalLink(world, used)).toThrow('already used');
    const stale = mint();
    travel('2026-06-01T00:05:00Z');
    expect(() => redeemPortalLink(world, stale)).toThrow('expired');
  });

  it('leads to a visit of one hour', () => {
    const { world, visit, travel } = atThePortal();
    const opened = visit();
    travel('2026-06-01T00:59:00Z');
    expect(portalView(world, opened).subscription?.status).toBe('active');
    travel('2026-06-01T01:00:00Z');
    expect(() => portalView(world, opened)).toThrow('visit');
  });
});

describe('in the portal', () => {
  it('every plan with a lookup key is on offer, with its direction', () => {
    const { world, visit } = atThePortal();
    createPrice(world, {
      currency: 'usd',
      unit_amount: 1,
      recurring: { interval: 'month' },
      product_data: { name: 'hidden' },
    });
    const { plans, currentPlan } = portalView(world, visit());
    expect(plans.map((plan) => [plan.price.lookup_key, plan.direction])).toEqual([
      ['small', 'downgrade'],
      ['middle', 'current'],
      ['big', 'upgrade'],
      ['middle_annual', 'upgrade'],
    ]);
    expect(currentPlan?.amountCents).toBe(9_000);
  });

  it('an upgrade happens at once for exactly what was previewed', () => {
    const { world, visit, big, travel, subscription } = atThePortal();
    travel('2026-06-16T00:00:00Z');
    const opened = visit();
    const preview = previewPlanChange(world, opened, big.id);
    expect(preview).toMatchObject({ when: 'now', dueNowCents: 15_000 - 4_500 });
    expect(portalChangePlan(world, opened, big.id).outcome).toBe('done');
    expect(subscription().items.data[0]?.price.id).toBe(big.id);
    expect(world.get('invoice', String(subscription().latest_invoice)).amount_paid).toBe(preview.dueNowCents);
    expect(period(subscription())).toBe('2026-06-01T00:00..2026-07-01T00:00');
  });

  it('a declined upgrade changes nothing', () => {
    const { world, visit, big, owner, middle, subscription, told } = atThePortal();
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    const opened = visit();
    told();
    expect(() => world.atomically(() => portalChangePlan(world, opened, big.id))).toThrow('declined');
    expect(subscription()).toMatchObject({
      status: 'active',
      items: { data: [{ price: { id: middle.id } }] },
    });
    expect(told()).toEqual([]);
  });

  it('a downgrade waits for the period end under a schedule, then bills the smaller price', () => {
    const { world, visit, small, travel, subscription, told } = atThePortal();
    const opened = visit();
    told();
    expect(portalChangePlan(world, opened, small.id).outcome).toBe('scheduled');
    expect(told()).toEqual([
      'subscription_schedule.created',
      'customer.subscription.updated',
      'subscription_schedule.updated',
    ]);
    expect(subscription()).toMatchObject({ schedule: expect.stringMatching(/^sub_sched_/) });
    expect(portalView(world, opened).pendingChange).toMatchObject({
      at: seconds('2026-07-01T00:00:00Z'),
      plan: { price: { id: small.id } },
    });
    travel('2026-07-01T00:00:00Z');
    expect(subscription().items.data[0]?.price.id).toBe(small.id);
    expect(world.get('invoice', String(subscription().latest_invoice))).toMatchObject({
      total: 3_000,
      status: 'paid',
    });
    expect(period(subscription())).toBe('2026-07-01T00:00..2026-08-01T00:00');
    travel('2026-08-01T00:00:00Z');
    expect(subscription()).toMatchObject({ schedule: null, status: 'active' });
    expect(told()).toContain('subscription_schedule.released');
  });

  it('going back to the present plan drops the booked downgrade', () => {
    const { world, visit, small, middle, travel, subscription } = atThePortal();
    const opened = visit();
    portalChangePlan(world, opened, small.id);
    portalChangePlan(world, opened, middle.id);
    expect(subscription().schedule).toBeNull();
    travel('2026-07-01T00:00:00Z');
    expect(subscription().items.data[0]?.price.id).toBe(middle.id);
  });

  it('moving to a yearly plan bills the year at once, less what is unused', () => {
    const { world, visit, annual, travel, subscription } = atThePortal();
    travel('2026-06-16T00:00:00Z');
    portalChangePlan(world, visit(), annual.id);
    expect(world.get('invoice', String(subscription().latest_invoice)).amount_paid).toBe(90_000 - 4_500);
    expect(period(subscription())).toBe('2026-06-16T00:00..2027-06-16T00:00');
  });

  it('cancelling sets cancel_at and leaves the flag, keeping undoes it', () => {
    const { world, visit, subscription, told } = atThePortal();
    const opened = visit();
    told();
    portalCancel(world, opened);
    expect(subscription()).toMatchObject({
      status: 'active',
      cancel_at: seconds('2026-07-01T00:00:00Z'),
      cancel_at_period_end: false,
      cancellation_details: { reason: 'cancellation_requested' },
    });
    portalKeep(world, opened);
    expect(subscription()).toMatchObject({ cancel_at: null, canceled_at: null });
    expect(told()).toEqual(['customer.subscription.updated', 'customer.subscription.updated']);
  });

  it('cancelling drops a booked downgrade and ends at the period end', () => {
    const { world, visit, small, travel, subscription } = atThePortal();
    const opened = visit();
    portalChangePlan(world, opened, small.id);
    portalCancel(world, opened);
    expect(subscription().schedule).toBeNull();
    travel('2026-07-01T00:00:00Z');
    expect(subscription()).toMatchObject({
      status: 'canceled',
      items: { data: [{ price: { unit_amount: 9_000 } }] },
    });
  });

  it('a new card becomes the default and pays what is open', () => {
    const { world, visit, owner, travel, subscription } = atThePortal();
    giveCard(world, owner, 'pm_card_chargeCustomerFail');
    travel('2026-07-01T00:00:00Z');
    expect(subscription().status).toBe('past_due');
    const opened = visit();
    const invoice = String(subscription().latest_invoice);
    expect(portalPayInvoice(world, opened, invoice, null)).toMatchObject({ outcome: 'declined', invoice });
    const card = createTestPaymentMethod(world, { pmAlias: 'pm_card_visa' }).id;
    portalSetDefaultPaymentMethod(world, opened, card);
    expect(portalPayInvoice(world, opened, invoice, null).outcome).toBe('done');
    expect(subscription()).toMatchObject({ status: 'active', default_payment_method: card });
  });

  it("another customer's invoice cannot be paid", () => {
    const { world, visit, middle } = atThePortal();
    const other = subscribe(world, middle);
    expect(() => portalPayInvoice(world, visit(), String(other.latest_invoice), null)).toThrow(
      'No such invoice',
    );
  });
});

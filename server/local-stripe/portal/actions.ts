import type Stripe from 'stripe';
import { endSubscription } from '../billing/cancel.ts';
import { changeSubscription, NO_CHANGE } from '../billing/change.ts';
import { collectInvoice } from '../billing/collect.ts';
import { idOf } from '../billing/customers.ts';
import { paymentIntentOf } from '../billing/invoice-payments.ts';
import { boundary } from '../billing/periods.ts';
import { planChange, type WantedChange } from '../billing/plan-change.ts';
import { recurrenceOf, usablePrice } from '../billing/prices.ts';
import { releaseSchedule } from '../billing/schedule-ends.ts';
import { scheduleAtPeriodEnd } from '../billing/schedules.ts';
import { periodEnd } from '../billing/subscription-object.ts';
import { arm } from '../billing/timers.ts';
import { PRORATIONS, wordOf } from '../billing/words.ts';
import { invalidRequest } from '../errors.ts';
import { attachPaymentMethod } from '../payment-methods.ts';
import { completeAuthentication } from '../payments.ts';
import type { World } from '../world.ts';
import { configurationOf, plansOnOffer, waitsForPeriodEnd } from './plans.ts';
import { afterPayment, done, invoiceResult, type PortalResult } from './results.ts';
import { visitedSession } from './sessions.ts';
import { liveSubscription } from './view.ts';

export interface PlanChangePreview {
  readonly when: 'now' | 'period_end' | 'unchanged';
  /** Unix seconds. */
  readonly takesEffectAt: number;
  /** Charged at once, after credit for unused time; negative is credit for later. */
  readonly dueNowCents: number;
  readonly currency: string;
  readonly lines: readonly { readonly description: string; readonly amountCents: number }[];
}

/**
 * Changes the plan: upwards at once with a proration invoice, downwards at the end of the period, back to the
 * present plan drops a booked change. Throws 402 and changes nothing when the card is declined.
 */
export function portalChangePlan(world: World, visit: string, priceId: string): PortalResult {
  const { session, configuration, subscription, price, from } = intended(world, visit, priceId);
  if (subscription.cancel_at !== null)
    throw invalidRequest('This subscription is about to end. Keep it first, then change the plan.');
  if (from.id === price.id) {
    dropSchedule(world, subscription);
    return done(world.get('subscription', subscription.id));
  }
  if (waitsForPeriodEnd(configuration, from, price) && subscription.status !== 'trialing') {
    const item = subscription.items.data[0];
    const items = [{ price: price.id, quantity: item?.quantity ?? 1, metadata: item?.metadata ?? {} }];
    const end = boundary(periodEnd(subscription), recurrenceOf(price), 1);
    scheduleAtPeriodEnd(world, subscription, items, end);
    return { ...done(world.get('subscription', subscription.id)), outcome: 'scheduled' };
  }
  dropSchedule(world, subscription);
  const changed = changeSubscription(world, subscription.id, {
    ...NO_CHANGE,
    ...wantedChange(configuration, subscription, price),
    paymentBehavior: 'error_if_declined',
  });
  return afterPayment(world, changed, session.customer);
}

/** What a change of plan would cost now and when it takes effect; nothing is changed. */
export function previewPlanChange(world: World, visit: string, priceId: string): PlanChangePreview {
  const { configuration, subscription, price, from } = intended(world, visit, priceId);
  const now = world.now(idOf(subscription.test_clock));
  const none = { dueNowCents: 0, currency: subscription.currency, lines: [] };
  if (from.id === price.id) return { when: 'unchanged', takesEffectAt: now, ...none };
  if (waitsForPeriodEnd(configuration, from, price) && subscription.status !== 'trialing')
    return { when: 'period_end', takesEffectAt: periodEnd(subscription), ...none };
  const wanted = wantedChange(configuration, subscription, price);
  const plan = planChange(world, subscription, wanted, now);
  const billed = plan.newPeriod.length > 0 || wanted.prorationBehavior === 'always_invoice';
  const lines = [...plan.prorations, ...plan.newPeriod];
  return {
    when: 'now',
    takesEffectAt: now,
    dueNowCents: billed ? lines.reduce((sum, line) => sum + line.amountCents, 0) : 0,
    currency: subscription.currency,
    lines: lines.map((line) => ({ description: line.description ?? '', amountCents: line.amountCents })),
  };
}

/** Cancels as the configuration says: at the end of the period by `cancel_at`, or at once. */
export function portalCancel(world: World, visit: string): PortalResult {
  const session = visitedSession(world, visit);
  const { subscription_cancel: cancel } = configurationOf(world, session).features;
  if (!cancel.enabled) throw invalidRequest('Cancelling is switched off in this portal.');
  const subscription = mustHave(world, session.customer);
  if (subscription.cancel_at !== null) return done(subscription);
  if (cancel.mode === 'immediately')
    return done(endSubscription(world, subscription.id, { reason: 'cancellation_requested' }));
  dropSchedule(world, subscription);
  return done(
    setCancellation(world, subscription, {
      cancel_at: periodEnd(subscription),
      canceled_at: world.now(idOf(subscription.test_clock)),
      reason: 'cancellation_requested',
    }),
  );
}

/** Takes a cancellation back that has not happened yet. */
export function portalKeep(world: World, visit: string): PortalResult {
  const subscription = mustHave(world, visitedSession(world, visit).customer);
  if (subscription.cancel_at === null) return done(subscription);
  return done(setCancellation(world, subscription, { cancel_at: null, canceled_at: null, reason: null }));
}

/** Attaches a payment method and makes it the default of the customer and of the subscription. */
export function portalSetDefaultPaymentMethod(
  world: World,
  visit: string,
  paymentMethod: string,
): PortalResult {
  const { customer: id } = visitedSession(world, visit);
  const method = attachPaymentMethod(world, paymentMethod, id);
  const customer = world.get('customer', id);
  if (customer.deleted) throw invalidRequest(`No such customer: '${id}'`, { code: 'resource_missing' });
  world.change(
    'customer',
    id,
    { invoice_settings: { ...customer.invoice_settings, default_payment_method: method.id } },
    'customer.updated',
  );
  const subscription = liveSubscription(world, id);
  if (subscription === null) return done(null);
  return done(
    world.change(
      'subscription',
      subscription.id,
      { default_payment_method: method.id },
      'customer.subscription.updated',
    ),
  );
}

/** Pays an open invoice, with another payment method where one is given. A decline is an outcome. */
export function portalPayInvoice(
  world: World,
  visit: string,
  invoiceId: string,
  paymentMethod: string | null,
): PortalResult {
  const { customer } = visitedSession(world, visit);
  const invoice = world.get('invoice', invoiceId);
  if (idOf(invoice.customer) !== customer)
    throw invalidRequest(`No such invoice: '${invoiceId}'`, { code: 'resource_missing' });
  const subscription = liveSubscription(world, customer);
  if (invoice.status === 'paid') return done(subscription);
  if (invoice.status !== 'open') throw invalidRequest('This invoice can no longer be paid.');
  collectInvoice(world, invoiceId, { paymentMethod, offSession: false, automatic: false });
  return invoiceResult(world, invoiceId, customer);
}

/** The customer passes or fails the 3D Secure step of an invoice's payment. */
export function portalFinishAuthentication(
  world: World,
  visit: string,
  invoiceId: string,
  outcome: 'succeed' | 'fail',
): PortalResult {
  const { customer } = visitedSession(world, visit);
  const intent = paymentIntentOf(world, invoiceId);
  if (intent === null || idOf(world.get('invoice', invoiceId).customer) !== customer)
    throw invalidRequest('No payment is waiting for authentication.');
  if (intent.status === 'requires_action') completeAuthentication(world, intent.id, outcome);
  return invoiceResult(world, invoiceId, customer);
}

interface Intended {
  readonly session: Stripe.BillingPortal.Session;
  readonly configuration: Stripe.BillingPortal.Configuration;
  readonly subscription: Stripe.Subscription;
  readonly price: Stripe.Price;
  readonly from: Stripe.Price;
}

function intended(world: World, visit: string, priceId: string): Intended {
  const session = visitedSession(world, visit);
  const configuration = configurationOf(world, session);
  if (!configuration.features.subscription_update.enabled)
    throw invalidRequest('Changing the plan is switched off in this portal.');
  const subscription = mustHave(world, session.customer);
  const price = usablePrice(world, priceId, 'price');
  const from = subscription.items.data[0]?.price;
  if (!from) throw invalidRequest('This subscription has no plan to change.');
  const offered = plansOnOffer(world, configuration, subscription).some((plan) => plan.price.id === price.id);
  if (!offered && price.id !== from.id)
    throw invalidRequest('This plan is not on offer.', { param: 'price' });
  return { session, configuration, subscription, price, from };
}

function wantedChange(
  configuration: Stripe.BillingPortal.Configuration,
  subscription: Stripe.Subscription,
  price: Stripe.Price,
): WantedChange {
  const { proration_behavior: behavior, trial_update_behavior: trial } =
    configuration.features.subscription_update;
  const id = subscription.items.data[0]?.id ?? null;
  return {
    items: [
      { id, price, quantity: subscription.items.data[0]?.quantity ?? 1, metadata: null, deleted: false },
    ],
    prorationBehavior: wordOf(PRORATIONS, behavior) ?? 'always_invoice',
    prorationDate: null,
    anchorNow: configuration.features.subscription_update.billing_cycle_anchor === 'now',
    trialEnd: subscription.status === 'trialing' && trial === 'end_trial' ? 'now' : undefined,
  };
}

function dropSchedule(world: World, subscription: Stripe.Subscription): void {
  const schedule = idOf(subscription.schedule);
  if (schedule !== null) releaseSchedule(world, schedule);
}

function setCancellation(
  world: World,
  subscription: Stripe.Subscription,
  to: {
    readonly cancel_at: number | null;
    readonly canceled_at: number | null;
    readonly reason: 'cancellation_requested' | null;
  },
): Stripe.Subscription {
  const details = { comment: null, feedback: null, feedback_option: null, reason: to.reason };
  const changed = world.change(
    'subscription',
    subscription.id,
    {
      cancel_at: to.cancel_at,
      cancel_at_period_end: false,
      canceled_at: to.canceled_at,
      cancellation_details: details,
    },
    'customer.subscription.updated',
  );
  arm(world, changed);
  return changed;
}

function mustHave(world: World, customer: string): Stripe.Subscription {
  const subscription = liveSubscription(world, customer);
  if (subscription === null) throw invalidRequest('This customer has no subscription.');
  return subscription;
}

import type Stripe from 'stripe';
import { idOf, livingCustomer } from '../billing/customers.ts';
import { scheduleOf } from '../billing/schedule-state.ts';
import { isOver } from '../billing/subscription-object.ts';
import type { World } from '../world.ts';
import { configurationOf, type PortalPlan, plansOnOffer, portalPlan } from './plans.ts';
import { visitedSession } from './sessions.ts';

/** All that the portal page shows. */
export interface PortalView {
  readonly session: Stripe.BillingPortal.Session;
  readonly configuration: Stripe.BillingPortal.Configuration;
  readonly customer: Stripe.Customer;
  readonly subscription: Stripe.Subscription | null;
  readonly currentPlan: PortalPlan | null;
  readonly plans: readonly PortalPlan[];
  /** A change booked for later, in unix seconds. */
  readonly pendingChange: { readonly plan: PortalPlan; readonly at: number } | null;
  /** When the subscription will end, in unix seconds, or null. */
  readonly cancelsAt: number | null;
  readonly paymentMethods: readonly Stripe.PaymentMethod[];
  readonly defaultPaymentMethod: string | null;
  /** Newest first. */
  readonly invoices: readonly Stripe.Invoice[];
}

/** What a visit shows; refused once the visit is over. */
export function portalView(world: World, visit: string): PortalView {
  const session = visitedSession(world, visit);
  const configuration = configurationOf(world, session);
  const customer = livingCustomer(world, session.customer);
  const subscription = liveSubscription(world, customer.id);
  const price = subscription?.items.data[0]?.price;
  return {
    session,
    configuration,
    customer,
    subscription,
    currentPlan: subscription && price ? portalPlan(world, price, subscription) : null,
    plans: subscription ? plansOnOffer(world, configuration, subscription) : [],
    pendingChange: subscription ? pendingChange(world, subscription) : null,
    cancelsAt: subscription?.cancel_at ?? null,
    paymentMethods: world.ofCustomer('payment_method', customer.id),
    defaultPaymentMethod:
      idOf(subscription?.default_payment_method) ?? idOf(customer.invoice_settings.default_payment_method),
    invoices: world
      .ofCustomer('invoice', customer.id)
      .filter(({ status }) => status !== 'draft')
      .toReversed(),
  };
}

/** The customer's newest subscription that is not over, or null. */
export function liveSubscription(world: World, customer: string): Stripe.Subscription | null {
  return world.ofCustomer('subscription', customer).findLast((one) => !isOver(one)) ?? null;
}

function pendingChange(world: World, subscription: Stripe.Subscription): PortalView['pendingChange'] {
  const schedule = scheduleOf(world, subscription);
  const begun = schedule?.current_phase?.start_date ?? 0;
  const next = schedule?.phases.find((phase) => phase.start_date > begun);
  const price = idOf(next?.items[0]?.price);
  const found = price === null ? undefined : world.find('price', price);
  return next && found ? { plan: portalPlan(world, found, subscription), at: next.start_date } : null;
}

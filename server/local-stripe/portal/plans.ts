import type Stripe from 'stripe';
import { idOf } from '../billing/customers.ts';
import { productName } from '../billing/prices.ts';
import { INTERVALS, wordOf } from '../billing/words.ts';
import type { World } from '../world.ts';

/** A plan as the portal offers it. */
export interface PortalPlan {
  readonly price: Stripe.Price;
  readonly name: string;
  readonly amountCents: number;
  readonly currency: string;
  readonly interval: 'day' | 'week' | 'month' | 'year';
  readonly intervalCount: number;
  /** How it compares with the plan the customer has now. */
  readonly direction: 'current' | 'upgrade' | 'downgrade';
}

/** The plans on offer: the configuration's products, or every active recurring price with a lookup key. */
export function plansOnOffer(
  world: World,
  configuration: Stripe.BillingPortal.Configuration,
  subscription: Stripe.Subscription,
): readonly PortalPlan[] {
  const { products } = configuration.features.subscription_update;
  const prices =
    products && products.length > 0
      ? products.flatMap((product) => product.prices).flatMap((id) => world.find('price', id) ?? [])
      : [...world.newestFirst('price')].filter((price) => price.lookup_key !== null).toReversed();
  return prices
    .filter((price) => price.active && price.recurring !== null && price.currency === subscription.currency)
    .map((price) => portalPlan(world, price, subscription))
    .toSorted((a, b) => days(a) - days(b) || a.amountCents - b.amountCents);
}

/** One price as a plan, compared with the subscription's own. */
export function portalPlan(world: World, price: Stripe.Price, subscription: Stripe.Subscription): PortalPlan {
  const plan = {
    price,
    name: productName(world, price),
    amountCents: price.unit_amount ?? 0,
    currency: price.currency,
    interval: wordOf(INTERVALS, price.recurring?.interval) ?? 'month',
    intervalCount: price.recurring?.interval_count ?? 1,
  } as const;
  const current = subscription.items.data[0]?.price;
  if (current?.id === price.id) return { ...plan, direction: 'current' };
  return { ...plan, direction: current && isDowngrade(current, price) ? 'downgrade' : 'upgrade' };
}

/** Costs less, or is paid more often: what Stripe's `schedule_at_period_end` conditions mean. */
function isDowngrade(from: Stripe.Price, to: Stripe.Price): boolean {
  return decreasesAmount(from, to) || shortensInterval(from, to);
}

/** Whether the configuration books this change for the end of the period instead of making it at once. */
export function waitsForPeriodEnd(
  configuration: Stripe.BillingPortal.Configuration,
  from: Stripe.Price,
  to: Stripe.Price,
): boolean {
  const { conditions } = configuration.features.subscription_update.schedule_at_period_end;
  return conditions.some(
    ({ type }) =>
      (type === 'decreasing_item_amount' && decreasesAmount(from, to)) ||
      (type === 'shortening_interval' && shortensInterval(from, to)),
  );
}

/** The configuration of a portal session. */
export function configurationOf(
  world: World,
  session: Stripe.BillingPortal.Session,
): Stripe.BillingPortal.Configuration {
  return world.get('billing_portal.configuration', idOf(session.configuration) ?? '');
}

function decreasesAmount(from: Stripe.Price, to: Stripe.Price): boolean {
  return (to.unit_amount ?? 0) < (from.unit_amount ?? 0) && !shortensInterval(from, to);
}

function shortensInterval(from: Stripe.Price, to: Stripe.Price): boolean {
  return lengthOf(to) < lengthOf(from);
}

function days(plan: PortalPlan): number {
  return lengthOf(plan.price);
}

function lengthOf(price: Stripe.Price): number {
  const interval = price.recurring?.interval;
  const unit = interval === 'day' ? 1 : interval === 'week' ? 7 : interval === 'year' ? 365 : 30;
  return unit * (price.recurring?.interval_count ?? 1);
}

import Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import type { Recurrence } from './periods.ts';
import { INTERVALS, wordOf } from './words.ts';

/** What the price costs for a quantity, in minor units. Prices without a fixed unit amount are refused. */
export function priceAmount(price: Stripe.Price, quantity: number): number {
  if (price.unit_amount === null)
    throw invalidRequest(
      `The price ${price.id} has no unit_amount; the local Stripe supports only prices with a fixed unit amount.`,
    );
  return price.unit_amount * quantity;
}

/** How often a recurring price recurs; a one-time price is refused as Stripe does. */
export function recurrenceOf(price: Stripe.Price, param = 'items'): Recurrence {
  const interval = price.recurring?.interval;
  if (price.recurring === null || interval === undefined)
    throw invalidRequest(
      `The price specified is set to \`type=one_time\` but this field only accepts prices with \`type=recurring\`.`,
      { param },
    );
  const known = wordOf(INTERVALS, interval);
  if (known === undefined) throw invalidRequest(`Unknown interval: ${interval}`, { param });
  return { interval: known, count: price.recurring.interval_count };
}

/** An active price by its id, or Stripe's refusals for missing and inactive ones. */
export function usablePrice(world: World, id: string, param: string): Stripe.Price {
  const price = world.find('price', id);
  if (!price) throw invalidRequest(`No such price: '${id}'`, { code: 'resource_missing', param });
  if (!price.active)
    throw invalidRequest(`The price specified is inactive. This field only accepts active prices.`, {
      code: 'resource_missing',
      param,
    });
  return price;
}

/** The id of a product whether or not it was expanded. */
export function productOf(price: Stripe.Price): string {
  return typeof price.product === 'string' ? price.product : price.product.id;
}

/** What a price's product is called, for descriptions on invoices. */
export function productName(world: World, price: Stripe.Price): string {
  const product = world.find('product', productOf(price));
  return product && !product.deleted ? product.name : (price.nickname ?? price.id);
}

/** The old plan object that Stripe still shows beside a recurring price. */
export function planOf(price: Stripe.Price): Stripe.Plan {
  return {
    id: price.id,
    object: 'plan',
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount === null ? null : Stripe.Decimal.from(price.unit_amount),
    billing_scheme: price.billing_scheme,
    created: price.created,
    currency: price.currency,
    interval: price.recurring?.interval ?? 'month',
    interval_count: price.recurring?.interval_count ?? 1,
    livemode: false,
    metadata: price.metadata,
    meter: price.recurring?.meter ?? null,
    nickname: price.nickname,
    product: productOf(price),
    tiers_mode: null,
    transform_usage: null,
    trial_period_days: price.recurring?.trial_period_days ?? null,
    usage_type: price.recurring?.usage_type ?? 'licensed',
  };
}

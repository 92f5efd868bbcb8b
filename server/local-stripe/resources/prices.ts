import type Stripe from 'stripe';
import { createPrice, freeLookupKey } from '../catalogue.ts';
import { newPrice, type PriceFields, priceFields } from '../catalogue-params.ts';
import { listRoute } from '../list.ts';
import { arrayOf, bool, currency, mergeMetadata, oneOf, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';

/** Prices: per unit, once or recurring. Tiers and metered usage are out of the local Stripe's scope. */
export const priceRoutes: Route[] = [
  route('POST', '/v1/prices', params(newPrice), (world, given) => createPrice(world, given)),
  route('GET', '/v1/prices/:id', params({}), (world, _given, id) => world.get('price', id)),
  route('POST', '/v1/prices/:id', params(priceFields), (world, given, id) => updatePrice(world, id, given)),
  listRoute(
    'price',
    '/v1/prices',
    {
      active: bool.optional(),
      currency: currency.optional(),
      lookup_keys: arrayOf(text).optional(),
      product: text.optional(),
      recurring: params({
        interval: oneOf('day', 'week', 'month', 'year').optional(),
        usage_type: oneOf('licensed', 'metered').optional(),
      }).optional(),
      type: oneOf('one_time', 'recurring').optional(),
    },
    (price, given) =>
      (given.active === undefined || price.active === given.active) &&
      (given.currency === undefined || price.currency === given.currency) &&
      (given.lookup_keys === undefined ||
        (price.lookup_key !== null && given.lookup_keys.includes(price.lookup_key))) &&
      (given.product === undefined || price.product === given.product) &&
      (given.recurring?.interval === undefined || price.recurring?.interval === given.recurring.interval) &&
      (given.recurring?.usage_type === undefined ||
        price.recurring?.usage_type === given.recurring.usage_type) &&
      (given.type === undefined || price.type === given.type),
  ),
];

function updatePrice(world: World, id: string, given: PriceFields): Stripe.Price {
  const before = world.get('price', id);
  const { lookup_key: lookupKey } = given;
  if (typeof lookupKey === 'string') freeLookupKey(world, lookupKey, id, given.transfer_lookup_key === true);
  return world.change(
    'price',
    id,
    {
      active: given.active ?? before.active,
      lookup_key: lookupKey === undefined ? before.lookup_key : lookupKey,
      metadata: mergeMetadata(before.metadata, given.metadata),
      nickname: given.nickname === undefined ? before.nickname : given.nickname,
      tax_behavior: given.tax_behavior ?? before.tax_behavior,
    },
    'price.updated',
  );
}

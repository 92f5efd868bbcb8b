import Stripe from 'stripe';
import type { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  currency,
  emptyable,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  text,
} from '../params.ts';
import { newPriceParams } from '../price-params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { createProduct } from './products.ts';

const writable = {
  active: bool.optional(),
  lookup_key: emptyable(text.max(200)).optional(),
  metadata: metadata.optional(),
  nickname: emptyable(text).optional(),
  tax_behavior: newPriceParams.tax_behavior,
  transfer_lookup_key: bool.optional(),
};

const newProduct = params({
  active: bool.optional(),
  id: text.optional(),
  metadata: metadata.optional(),
  name: text,
  statement_descriptor: text.max(22).optional(),
  tax_code: text.optional(),
  unit_label: text.optional(),
});

const newPrice = {
  ...writable,
  ...newPriceParams,
  billing_scheme: oneOf('per_unit').optional(),
  product: text.optional(),
  product_data: newProduct.optional(),
};

type Writable = z.output<z.ZodObject<typeof writable>>;
type NewPrice = z.output<z.ZodObject<typeof newPrice>>;

/** Prices: per unit, once or recurring. Tiers and metered usage are out of the local Stripe's scope. */
export const priceRoutes: Route[] = [
  route('POST', '/v1/prices', params(newPrice), (world, given) => createPrice(world, given)),
  route('GET', '/v1/prices/:id', params({}), (world, _given, id) => world.get('price', id)),
  route('POST', '/v1/prices/:id', params(writable), (world, given, id) => updatePrice(world, id, given)),
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

/** Creates a price; tells price.created. A lookup key in use is refused unless `transfer_lookup_key` moves it. */
export function createPrice(world: World, given: NewPrice): Stripe.Price {
  const product = productOf(world, given);
  const amount = amountOf(given);
  const lookupKey = given.lookup_key ?? null;
  if (lookupKey !== null) freeLookupKey(world, lookupKey, null, given.transfer_lookup_key === true);
  const price: Stripe.Price = {
    id: world.newId('price'),
    object: 'price',
    active: given.active ?? true,
    billing_scheme: 'per_unit',
    created: world.now(),
    currency: given.currency,
    custom_unit_amount: null,
    livemode: false,
    lookup_key: lookupKey,
    metadata: mergeMetadata({}, given.metadata),
    nickname: given.nickname ?? null,
    product,
    recurring: given.recurring
      ? {
          interval: given.recurring.interval,
          interval_count: given.recurring.interval_count ?? 1,
          meter: null,
          trial_period_days: given.recurring.trial_period_days ?? null,
          usage_type: 'licensed',
        }
      : null,
    tax_behavior: given.tax_behavior ?? 'unspecified',
    tiers_mode: null,
    transform_quantity: null,
    type: given.recurring ? 'recurring' : 'one_time',
    ...amount,
  };
  return world.add('price', price, 'price.created');
}

function updatePrice(world: World, id: string, given: Writable): Stripe.Price {
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

function productOf(world: World, given: NewPrice): string {
  if (given.product !== undefined && given.product_data !== undefined)
    throw invalidRequest('You may only specify one of these parameters: product, product_data.', {
      param: 'product',
    });
  if (given.product_data !== undefined) return createProduct(world, given.product_data).id;
  if (given.product === undefined)
    throw invalidRequest('Missing required param: product.', { code: 'parameter_missing', param: 'product' });
  return world.get('product', given.product, 'product').id;
}

function amountOf(given: NewPrice): Pick<Stripe.Price, 'unit_amount' | 'unit_amount_decimal'> {
  const { unit_amount: whole, unit_amount_decimal: exact } = given;
  if ((whole === undefined) === (exact === undefined)) {
    throw invalidRequest('Specify exactly one of unit_amount and unit_amount_decimal.', {
      code: 'parameter_missing',
      param: 'unit_amount',
    });
  }
  const written = exact ?? String(whole);
  if (written.startsWith('-'))
    throw invalidRequest('This value must be greater than or equal to 0.', {
      code: 'parameter_invalid_integer',
      param: 'unit_amount',
    });
  return {
    unit_amount: Number.isInteger(Number(written)) ? Number(written) : null,
    unit_amount_decimal: Stripe.Decimal.from(written),
  };
}

/** A lookup key belongs to one price at a time: moving it strips it from the price that has it now. */
function freeLookupKey(world: World, key: string, taker: string | null, transfer: boolean): void {
  for (const price of world.newestFirst('price')) {
    if (price.lookup_key !== key || price.id === taker) continue;
    if (!transfer) {
      throw invalidRequest(
        `A price (\`${price.id}\`) already uses that lookup key. Set transfer_lookup_key=true to move it to the new price.`,
        { code: 'resource_already_exists', param: 'lookup_key' },
      );
    }
    world.change('price', price.id, { lookup_key: null }, 'price.updated');
  }
}

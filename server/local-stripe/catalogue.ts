import Stripe from 'stripe';
import type { NewPrice, NewProduct } from './catalogue-params.ts';
import { invalidRequest } from './errors.ts';
import { mergeMetadata } from './params.ts';
import type { World } from './world.ts';

/** Creates a product, with its default price where one is asked for; tells product.created. */
export function createProduct(world: World, given: NewProduct): Stripe.Product {
  const id = given.id ?? world.newId('product');
  if (world.find('product', id))
    throw invalidRequest(`Product already exists.`, { code: 'resource_already_exists', param: 'id' });
  const now = world.now();
  const product: Stripe.Product = {
    id,
    object: 'product',
    active: given.active ?? true,
    created: now,
    default_price: null,
    description: given.description ?? null,
    images: given.images ?? [],
    livemode: false,
    marketing_features: given.marketing_features ?? [],
    metadata: mergeMetadata({}, given.metadata),
    name: given.name,
    package_dimensions: given.package_dimensions ?? null,
    shippable: given.shippable ?? null,
    statement_descriptor: given.statement_descriptor ?? null,
    tax_code: given.tax_code ?? null,
    tax_details: null,
    type: given.type ?? 'service',
    unit_label: given.unit_label ?? null,
    updated: now,
    url: given.url ?? null,
  };
  world.add('product', product, 'product.created');
  if (given.default_price_data === undefined) return product;
  const price = createPrice(world, { ...given.default_price_data, product: id });
  return world.change('product', id, { default_price: price.id }, 'product.updated');
}

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

/** A lookup key belongs to one price at a time: moving it strips it from the price that has it now. */
export function freeLookupKey(world: World, key: string, taker: string | null, transfer: boolean): void {
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

import type Stripe from 'stripe';
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  decimal,
  emptyable,
  int,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  text,
  webAddress,
} from '../params.ts';
import { newPriceParams } from '../price-params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { createPrice } from './prices.ts';

const amount = z.string().transform(Number).pipe(z.number().positive());

const writable = {
  active: bool.optional(),
  description: emptyable(text).optional(),
  images: arrayOf(text).optional(),
  marketing_features: arrayOf(params({ name: text })).optional(),
  metadata: metadata.optional(),
  package_dimensions: emptyable(
    params({ height: amount, length: amount, weight: amount, width: amount }),
  ).optional(),
  shippable: bool.optional(),
  statement_descriptor: emptyable(text.max(22)).optional(),
  tax_code: emptyable(text).optional(),
  unit_label: emptyable(text).optional(),
  url: emptyable(webAddress).optional(),
};

const defaultPrice = params({
  currency: newPriceParams.currency,
  metadata: metadata.optional(),
  recurring: newPriceParams.recurring,
  tax_behavior: newPriceParams.tax_behavior,
  unit_amount: int.optional(),
  unit_amount_decimal: decimal.optional(),
});

type Writable = z.output<z.ZodObject<typeof writable>>;
type NewProduct = Writable & {
  name: string;
  id?: string | undefined;
  type?: Stripe.Product.Type | undefined;
  default_price_data?: z.output<typeof defaultPrice> | undefined;
};

/** Products. */
export const productRoutes: Route[] = [
  route(
    'POST',
    '/v1/products',
    params({
      ...writable,
      name: text,
      id: text.optional(),
      type: oneOf('good', 'service').optional(),
      default_price_data: defaultPrice.optional(),
    }),
    (world, given) => createProduct(world, given),
  ),
  route('GET', '/v1/products/:id', params({}), (world, _given, id) => world.get('product', id)),
  route(
    'POST',
    '/v1/products/:id',
    params({ ...writable, name: text.optional(), default_price: emptyable(text).optional() }),
    (world, given, id) => updateProduct(world, id, given),
  ),
  route('DELETE', '/v1/products/:id', params({}), (world, _given, id) => deleteProduct(world, id)),
  listRoute(
    'product',
    '/v1/products',
    {
      active: bool.optional(),
      ids: arrayOf(text).optional(),
      shippable: bool.optional(),
      type: oneOf('good', 'service').optional(),
      url: text.optional(),
    },
    (product, { active, ids, shippable, type, url }) =>
      (active === undefined || product.active === active) &&
      (ids === undefined || ids.includes(product.id)) &&
      (shippable === undefined || product.shippable === shippable) &&
      (type === undefined || product.type === type) &&
      (url === undefined || product.url === url),
  ),
];

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

function updateProduct(
  world: World,
  id: string,
  given: Writable & { name?: string | undefined; default_price?: string | null | undefined },
): Stripe.Product {
  const before = world.get('product', id);
  if (typeof given.default_price === 'string') world.get('price', given.default_price, 'default_price');
  const { metadata: change, ...fields } = given;
  const metadata = mergeMetadata(before.metadata, change);
  const present = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  return world.change('product', id, { ...present, metadata, updated: world.now() }, 'product.updated');
}

function deleteProduct(world: World, id: string): Stripe.DeletedProduct {
  const product = world.get('product', id);
  for (const price of world.newestFirst('price')) {
    if (price.product === id)
      throw invalidRequest(
        'This product cannot be deleted because it has one or more user-created prices. Archive it with active=false instead.',
      );
  }
  world.store.remove('product', id);
  world.emit('product.deleted', product);
  return { id, object: 'product', deleted: true };
}

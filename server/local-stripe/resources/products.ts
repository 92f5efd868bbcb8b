import type Stripe from 'stripe';
import { createProduct } from '../catalogue.ts';
import { defaultPrice, type ProductFields, productFields } from '../catalogue-params.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import { arrayOf, bool, emptyable, mergeMetadata, oneOf, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';

/** Products. */
export const productRoutes: Route[] = [
  route(
    'POST',
    '/v1/products',
    params({
      ...productFields,
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
    params({ ...productFields, name: text.optional(), default_price: emptyable(text).optional() }),
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

function updateProduct(
  world: World,
  id: string,
  given: ProductFields & { name?: string | undefined; default_price?: string | null | undefined },
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

import type Stripe from 'stripe';
import type { z } from 'zod';
import type { ItemChange } from '../billing/item-changes.ts';
import { bool, intBetween, mergeMetadata, metadata, params, text } from '../params.ts';
import type { World } from '../world.ts';
import { givenPrice, priceData, unsupported } from './billing-params.ts';

/** One of `items[]` of an update. */
export const changedItem = params({
  id: text.optional(),
  price: text.optional(),
  price_data: priceData.optional(),
  quantity: intBetween(0, 999_999).optional(),
  deleted: bool.optional(),
  metadata: metadata.optional(),
  ...unsupported('billing_thresholds', 'clear_usage', 'current_trial', 'discounts', 'plan', 'tax_rates'),
});

/** What it asks of the subscription. An item may be named by its id, or by the price it already has. */
export function itemChange(
  world: World,
  subscription: Stripe.Subscription,
  given: z.output<typeof changedItem>,
  param: string,
): ItemChange {
  const named = given.id ?? subscription.items.data.find(({ price }) => price.id === given.price)?.id ?? null;
  const known = subscription.items.data.find(({ id }) => id === named);
  const prices = given.price !== undefined || given.price_data !== undefined;
  // A price that the item already has may have been archived since: it stays usable for its subscribers.
  const price = !prices || (known && given.price === known.price.id) ? null : givenPrice(world, given, param);
  return {
    id: named,
    price,
    quantity: given.quantity ?? null,
    metadata: given.metadata === undefined ? null : mergeMetadata(known?.metadata ?? {}, given.metadata),
    deleted: given.deleted ?? false,
  };
}

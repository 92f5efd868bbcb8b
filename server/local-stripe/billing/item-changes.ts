import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { periodAt } from './periods.ts';
import { planOf, recurrenceOf } from './prices.ts';
import { newItem, periodEnd } from './subscription-object.ts';

/** One entry of `items[]` of an update: an existing item by id, or a price to add. */
export interface ItemChange {
  readonly id: string | null;
  readonly price: Stripe.Price | null;
  readonly quantity: number | null;
  readonly metadata: Stripe.Metadata | null;
  readonly deleted: boolean;
}

/** The items after the changes, not yet stored. Throws Stripe's refusals for what does not fit together. */
export function changedItems(
  world: World,
  subscription: Stripe.Subscription,
  changes: readonly ItemChange[],
  now: number,
): Stripe.SubscriptionItem[] {
  let items = [...subscription.items.data];
  for (const [index, change] of changes.entries()) {
    const param = `items[${index}]`;
    const known = change.id === null ? undefined : items.find(({ id }) => id === change.id);
    if (change.id !== null && !known)
      throw invalidRequest(`No such subscription_item: '${change.id}'`, {
        code: 'resource_missing',
        param: `${param}[id]`,
      });
    if (change.price && change.price.currency !== subscription.currency)
      throw invalidRequest(
        `The price specified only supports \`${change.price.currency}\`. This doesn't match the expected currency: \`${subscription.currency}\`.`,
        { param: `${param}[price]` },
      );
    if (!known) {
      items.push(addedItem(world, subscription, change, items, param, now));
    } else if (change.deleted) {
      items = items.filter((item) => item !== known);
    } else {
      const price = change.price ?? known.price;
      recurrenceOf(price, `${param}[price]`);
      const next: Stripe.SubscriptionItem = {
        ...known,
        price,
        plan: planOf(price),
        quantity: change.quantity ?? (change.price ? 1 : (known.quantity ?? 1)),
        metadata: change.metadata ?? known.metadata,
      };
      items = items.map((item) => (item === known ? next : item));
    }
  }
  if (items.length === 0)
    throw invalidRequest(
      'A subscription must have at least one active plan. To stop it, cancel the subscription.',
      {
        param: 'items',
      },
    );
  return items;
}

function addedItem(
  world: World,
  subscription: Stripe.Subscription,
  change: ItemChange,
  items: readonly Stripe.SubscriptionItem[],
  param: string,
  now: number,
): Stripe.SubscriptionItem {
  const { price } = change;
  if (price === null)
    throw invalidRequest(`Missing required param: ${param}[price].`, {
      code: 'parameter_missing',
      param: `${param}[price]`,
    });
  if (items.some((item) => item.price.id === price.id))
    throw invalidRequest(`Cannot add multiple subscription items with the same plan: ${price.id}`, {
      param: `${param}[price]`,
    });
  const period =
    subscription.status === 'trialing'
      ? { start: now, end: periodEnd(subscription) }
      : periodAt(subscription.billing_cycle_anchor, recurrenceOf(price, `${param}[price]`), now);
  const wanted = { price, quantity: change.quantity ?? 1, metadata: change.metadata ?? {} };
  return newItem(world, subscription.id, wanted, period, now);
}

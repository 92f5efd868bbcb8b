import type Stripe from 'stripe';
import type { z } from 'zod';
import { changeSubscription, NO_CHANGE } from '../billing/change.ts';
import { resourceMissing } from '../errors.ts';
import { listOf } from '../list.ts';
import { bool, intBetween, params, text, timestamp } from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { paymentBehavior, playedBehavior, prorationBehavior, unsupported } from './billing-params.ts';
import { changedItem, itemChange } from './item-params.ts';

const { id: _id, deleted: _deleted, ...itemFields } = changedItem.shape;

const how = {
  off_session: bool.optional(),
  payment_behavior: paymentBehavior.optional(),
  proration_behavior: prorationBehavior.optional(),
  proration_date: timestamp.optional(),
};

type How = z.output<z.ZodObject<typeof how>>;

/** Items of subscriptions one by one; each change prorates as an update of the subscription does. */
export const subscriptionItemRoutes: Route[] = [
  route(
    'POST',
    '/v1/subscription_items',
    params({ ...itemFields, ...how, subscription: text }),
    (world, { subscription: id, ...given }) => {
      const before = world.get('subscription', id, 'subscription');
      const known = new Set(before.items.data.map((item) => item.id));
      const { off_session, payment_behavior, proration_behavior, proration_date, ...item } = given;
      const change = { ...itemChange(world, before, item, 'item'), id: null };
      const after = changeSubscription(world, id, {
        ...NO_CHANGE,
        ...behaviour({ off_session, payment_behavior, proration_behavior, proration_date }),
        items: [change],
      });
      const added = after.items.data.find((one) => !known.has(one.id));
      if (!added) throw new Error(`no item was added to ${id}`);
      return added;
    },
  ),
  route('GET', '/v1/subscription_items/:id', params({}), (world, _given, id) => itemById(world, id).item),
  route(
    'POST',
    '/v1/subscription_items/:id',
    params({ ...itemFields, ...how }),
    (world, { off_session, payment_behavior, proration_behavior, proration_date, ...given }, id) => {
      const { subscription } = itemById(world, id);
      changeSubscription(world, subscription.id, {
        ...NO_CHANGE,
        ...behaviour({ off_session, payment_behavior, proration_behavior, proration_date }),
        items: [itemChange(world, subscription, { ...given, id }, 'item')],
      });
      return itemById(world, id).item;
    },
  ),
  route(
    'DELETE',
    '/v1/subscription_items/:id',
    params({ ...how, ...unsupported('clear_usage') }),
    (world, given, id) => {
      const { subscription } = itemById(world, id);
      changeSubscription(world, subscription.id, {
        ...NO_CHANGE,
        ...behaviour(given),
        items: [{ id, price: null, quantity: null, metadata: null, deleted: true }],
      });
      return { id, object: 'subscription_item', deleted: true } satisfies Stripe.DeletedSubscriptionItem;
    },
  ),
  route(
    'GET',
    '/v1/subscription_items',
    params({
      subscription: text,
      limit: intBetween(1, 100).optional(),
      ...unsupported('starting_after', 'ending_before'),
    }),
    (world, { subscription, limit = 10 }) => {
      const { data } = world.get('subscription', subscription, 'subscription').items;
      return listOf(data.slice(0, limit), '/v1/subscription_items', data.length > limit);
    },
  ),
];

function behaviour(given: How) {
  return {
    prorationBehavior: given.proration_behavior ?? ('create_prorations' as const),
    prorationDate: given.proration_date ?? null,
    paymentBehavior: playedBehavior(given.payment_behavior),
    offSession: given.off_session ?? false,
  };
}

function itemById(
  world: World,
  id: string,
): { item: Stripe.SubscriptionItem; subscription: Stripe.Subscription } {
  const owner = world.hidden.get<{ subscription: string }>('subscription_of_item', id)?.subscription;
  const subscription = owner === undefined ? undefined : world.find('subscription', owner);
  const item = subscription?.items.data.find((one) => one.id === id);
  if (!subscription || !item) throw resourceMissing('subscription_item', id, 'item');
  return { item, subscription };
}

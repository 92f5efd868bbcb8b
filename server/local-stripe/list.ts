import type Stripe from 'stripe';
import type { z } from 'zod';
import { invalidRequest } from './errors.ts';
import type { Kind, StripeObjects } from './kinds.ts';
import { created, intBetween, params, text } from './params.ts';
import { type Route, route } from './route.ts';
import type { World } from './world.ts';

const paging = {
  limit: intBetween(1, 100).optional(),
  starting_after: text.optional(),
  ending_before: text.optional(),
};

const createdFilter = { created: created.optional() };

type Filters<F extends z.ZodRawShape> = z.output<z.ZodObject<F>>;

/**
 * A list as Stripe answers it: newest first, 1 to 100 at a time (10 unless told), cursors by id, `has_more`, and
 * `created` ranges. Deleted objects are never listed. Where `ownerAsked` names an owner (by default the filter
 * `customer` does), only what is theirs is read.
 */
export function listRoute<K extends Kind, F extends z.ZodRawShape>(
  kind: K,
  path: string,
  filters: F,
  matches: (object: StripeObjects[K], filters: Filters<F>, call: { world: World; id: string }) => boolean,
  ownerAsked: (filters: { customer?: unknown; type?: unknown }) => unknown = ({ customer }) => customer,
): Route {
  return route('GET', path, params({ ...paging, ...createdFilter, ...filters }), (world, given, id) => {
    // The schema above is the spread of three shapes; TypeScript does not see through the generic spread.
    const query = given as Filters<F> &
      Page & { created?: Stripe.RangeQueryParam; customer?: unknown; type?: unknown };
    const wanted = (object: StripeObjects[K]): boolean =>
      !('deleted' in object && object.deleted === true) &&
      inRange(object, query.created) &&
      matches(object, query, { world, id });
    const owner = ownerAsked(query);
    const cursor = query.starting_after ?? query.ending_before;
    const source =
      (typeof owner === 'string' && ofOneOwner(world, kind, owner, cursor)) || ofAll(world, kind);
    return page(source, query, wanted, path.replace(':id', id), (cursor, param) =>
      world.get(kind, cursor, param),
    );
  });
}

/** A list that is complete as it stands, such as the items within a subscription. */
export function listOf<T>(data: T[], url: string, hasMore = false): Stripe.ApiList<T> {
  return { object: 'list', data, has_more: hasMore, url };
}

interface Page {
  readonly limit?: number | undefined;
  readonly starting_after?: string | undefined;
  readonly ending_before?: string | undefined;
}

interface Source<T> {
  newestFirst(after?: string): Iterable<T>;
  oldestFirst(after?: string): Iterable<T>;
}

function page<T>(
  source: Source<T>,
  query: Page,
  wanted: (object: T) => boolean,
  url: string,
  mustExist: (cursor: string, param: string) => unknown,
): Stripe.ApiList<T> {
  const { limit = 10, starting_after: after, ending_before: before } = query;
  if (after !== undefined && before !== undefined)
    throw invalidRequest('You can only pass one of starting_after and ending_before.', {
      param: 'ending_before',
    });
  if (after !== undefined) mustExist(after, 'starting_after');
  if (before !== undefined) mustExist(before, 'ending_before');
  const found: T[] = [];
  for (const object of before === undefined ? source.newestFirst(after) : source.oldestFirst(before)) {
    if (!wanted(object)) continue;
    found.push(object);
    if (found.length > limit) break;
  }
  const data = found.slice(0, limit);
  return listOf(before === undefined ? data : data.reverse(), url, found.length > limit);
}

function ofAll<K extends Kind>(world: World, kind: K): Source<StripeObjects[K]> {
  return {
    newestFirst: (after) => world.newestFirst(kind, after),
    // The store is keyed by kind, so what is found under a kind has its type.
    oldestFirst: (after) => world.store.oldestFirst(kind, after) as Iterable<StripeObjects[K]>,
  };
}

/** Undefined where the cursor is someone else's: the place it marks is only found among all. */
function ofOneOwner<K extends Kind>(
  world: World,
  kind: K,
  owner: string,
  cursor: string | undefined,
): Source<StripeObjects[K]> | undefined {
  const oldestFirst = world.ofCustomer(kind, owner);
  if (cursor !== undefined && !oldestFirst.some((object) => 'id' in object && object.id === cursor))
    return undefined;
  const newestFirst = oldestFirst.toReversed();
  const from = (objects: readonly StripeObjects[K][], id: string | undefined) =>
    id === undefined
      ? objects
      : objects.slice(objects.findIndex((object) => 'id' in object && object.id === id) + 1);
  return {
    newestFirst: (after) => from(newestFirst, after),
    oldestFirst: (after) => from(oldestFirst, after),
  };
}

function inRange(object: object, range: Stripe.RangeQueryParam | undefined): boolean {
  if (range === undefined) return true;
  const at = 'created' in object && typeof object.created === 'number' ? object.created : 0;
  return (
    (range.gt === undefined || at > range.gt) &&
    (range.gte === undefined || at >= range.gte) &&
    (range.lt === undefined || at < range.lt) &&
    (range.lte === undefined || at <= range.lte)
  );
}

import { invalidRequest } from './errors.ts';
import type { World } from './world.ts';

/**
 * What an object shows only when asked, under `object.property` (`checkout.session.line_items`). Each resource
 * file brings its own; local-stripe.ts collects them.
 */
export type Includes = Readonly<Record<string, (world: World, object: object) => unknown>>;

/**
 * The answer with each path (`latest_invoice.payments`, `data.customer`) replaced by the object its id names.
 * Nothing stored is touched. Throws Stripe's 400 for what cannot be expanded or is deeper than four levels.
 */
export function expand(world: World, includes: Includes, answer: object, paths: readonly string[]): object {
  let expanded = answer;
  for (const path of paths) {
    const steps = path.split('.');
    if (steps.length > (steps[0] === 'data' ? 5 : 4))
      throw invalidRequest(`You cannot expand more than 4 levels of a property (${path}).`, {
        param: 'expand',
      });
    expanded = expandAt(world, includes, expanded, steps, path);
  }
  return expanded;
}

function expandAt(
  world: World,
  includes: Includes,
  object: object,
  steps: readonly string[],
  path: string,
): object {
  const [name, ...rest] = steps;
  if (name === undefined) return object;
  const value = property(world, includes, object, name);
  if (value === undefined) {
    throw invalidRequest(
      `This property cannot be expanded (${path}). It may not exist on this object, or be spelled differently.`,
      { code: 'property_not_expandable', param: 'expand' },
    );
  }
  const found = typeof value === 'string' ? named(world, name, value) : value;
  if (typeof value === 'string' && found === undefined)
    throw invalidRequest(`This property cannot be expanded (${path}).`, { param: 'expand' });
  return { ...object, [name]: deeper(world, includes, found, rest, path) };
}

/** An id tells its kind by its prefix, but for a product, whose id its maker may choose. */
function named(world: World, name: string, id: string): object | undefined {
  return name === 'product' ? world.find('product', id) : world.findById(id);
}

function deeper(
  world: World,
  includes: Includes,
  value: unknown,
  rest: readonly string[],
  path: string,
): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (!Array.isArray(value)) return expandAt(world, includes, value, rest, path);
  return value.map((entry: unknown) => {
    const found = typeof entry === 'string' ? (world.findById(entry) ?? entry) : entry;
    return deeper(world, includes, found, rest, path);
  });
}

function property(world: World, includes: Includes, object: object, name: string): unknown {
  const kind: unknown = Reflect.get(object, 'object');
  const include = includes[`${String(kind)}.${name}`];
  if (include) return include(world, object);
  return Object.hasOwn(object, name) ? Reflect.get(object, name) : undefined;
}

import type { World } from '../world.ts';

const held = new WeakMap<World, Set<string>>();

/**
 * Runs work which itself follows up on a payment intent, so that the reactions to the payment's events, which are
 * there for payments that end later, leave it alone meanwhile.
 */
export function following<T>(world: World, paymentIntent: string, work: () => T): T {
  const ids = held.get(world) ?? new Set<string>();
  held.set(world, ids);
  ids.add(paymentIntent);
  try {
    return work();
  } finally {
    ids.delete(paymentIntent);
  }
}

/** Whether `following` is under way for this payment intent. */
export function isFollowed(world: World, paymentIntent: string): boolean {
  return held.get(world)?.has(paymentIntent) ?? false;
}

import type { Stored } from './disk.ts';
import type { Snapshot, World } from './world.ts';

/**
 * The owner of an object: its customer, if it has one, which never changes once set at creation. The owner of an
 * event is its type, so that a rare type is found among a hundred thousand events without looking at each.
 */
export function ownerOf(value: Stored): string | null {
  const { object, type } = value as { object?: unknown; type?: unknown };
  if (object === 'event') return typeof type === 'string' ? type : null;
  const customer = (value as { customer?: unknown }).customer;
  if (typeof customer === 'string') return customer;
  return null;
}

/** The test clock that governs an object: its own, or its customer's. */
export function clockOf(world: World, object: Snapshot): string | null {
  const { test_clock, customer } = object as { test_clock?: unknown; customer?: unknown };
  if (typeof test_clock === 'string') return test_clock;
  if (typeof customer !== 'string') return null;
  const owner = world.find('customer', customer);
  if (owner === undefined || owner.deleted) return null;
  return typeof owner.test_clock === 'string' ? owner.test_clock : null;
}

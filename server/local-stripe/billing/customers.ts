import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';

/** An id whether or not the object was expanded; null stays null. */
export function idOf<T extends { readonly id: string }>(value: string | T | null | undefined): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'string' ? value : value.id;
}

/** A customer who still exists, or Stripe's refusal naming `param`. */
export function livingCustomer(world: World, id: string, param = 'customer'): Stripe.Customer {
  const customer = world.find('customer', id);
  if (!customer || customer.deleted)
    throw invalidRequest(`No such customer: '${id}'`, { code: 'resource_missing', param });
  return customer;
}

/** The customer, or null once deleted. */
export function customerIfAlive(world: World, id: string): Stripe.Customer | null {
  const customer = world.find('customer', id);
  return customer && !customer.deleted ? customer : null;
}

/** The test clock that governs a customer's objects, or null. */
export function clockOfCustomer(world: World, id: string | null): string | null {
  return id === null ? null : idOf(customerIfAlive(world, id)?.test_clock);
}

/** Where the local Stripe's own pages are reached, without a closing slash. */
export function baseUrl(world: World): string {
  return world.hidden.get<{ url: string }>('base_url', 'self')?.url ?? 'http://127.0.0.1:12111';
}

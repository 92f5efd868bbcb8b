import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { configurationOf } from './plans.ts';
import { visitedSession } from './sessions.ts';
import type { PortalView } from './view.ts';

const ADDRESS = /^[^\s@]{1,64}@[^\s@]+\.[^\s@]+$/;

/** Whether the portal's configuration lets customers write another address. */
export function mayChangeEmail({ features }: PortalView['configuration']): boolean {
  const { enabled, allowed_updates: allowed } = features.customer_update;
  return enabled && allowed.includes('email');
}

/** Writes another address onto the customer and tells customer.updated; false, and nothing done, for one that is none. */
export function portalSetEmail(world: World, visit: string, email: string): boolean {
  const session = visitedSession(world, visit);
  if (!mayChangeEmail(configurationOf(world, session)))
    throw invalidRequest('Changing the e-mail address is switched off in this portal.');
  if (email.length > 512 || !ADDRESS.test(email)) return false;
  world.change('customer', session.customer, { email }, 'customer.updated');
  return true;
}

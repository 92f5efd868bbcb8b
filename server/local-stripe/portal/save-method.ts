import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import { completeSetupAuthentication, confirmSetupIntent, createSetupIntent, setupError } from '../setups.ts';
import type { World } from '../world.ts';
import { portalSetDefaultPaymentMethod } from './actions.ts';
import { visitedSession } from './sessions.ts';

/** What came of saving a payment method: kept as the default, or the bank asks first. */
export type SavedMethod =
  | { readonly outcome: 'done' }
  | { readonly outcome: 'requires_action'; readonly setup: string };

/**
 * Saves a new payment method by a SetupIntent, as Stripe's portal does, and makes it the default. The bank may ask
 * first. Throws 402 for a method that is refused; what was tried stays.
 */
export function portalSaveMethod(world: World, visit: string, method: Stripe.PaymentMethod): SavedMethod {
  const { customer } = visitedSession(world, visit);
  const { id } = createSetupIntent(world, {
    customer,
    paymentMethodTypes: [method.type],
    usage: 'off_session',
    description: null,
    metadata: {},
  });
  return follow(world, visit, confirmSetupIntent(world, id, { paymentMethod: method.id }));
}

/** The customer passes or fails the bank's question. Throws as `portalSaveMethod` does. */
export function portalFinishSetup(
  world: World,
  visit: string,
  setup: string,
  outcome: 'succeed' | 'fail',
): SavedMethod {
  const intent = portalSetup(world, visit, setup);
  if (intent.status !== 'requires_action') return { outcome: 'done' };
  return follow(world, visit, completeSetupAuthentication(world, setup, outcome));
}

/** A setup of this visit's customer. */
export function portalSetup(world: World, visit: string, setup: string): Stripe.SetupIntent {
  const { customer } = visitedSession(world, visit);
  const intent = world.get('setup_intent', setup);
  if (intent.customer !== customer)
    throw invalidRequest(`No such setupintent: '${setup}'`, { code: 'resource_missing' });
  return intent;
}

function follow(world: World, visit: string, intent: Stripe.SetupIntent): SavedMethod {
  if (intent.status === 'requires_action') return { outcome: 'requires_action', setup: intent.id };
  if (intent.status !== 'succeeded' || typeof intent.payment_method !== 'string') throw setupError(intent);
  portalSetDefaultPaymentMethod(world, visit, intent.payment_method);
  return { outcome: 'done' };
}

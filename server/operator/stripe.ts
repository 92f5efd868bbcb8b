import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { connectStripe, type StripeGateway } from '../stripe/gateway.ts';
import { UsageError } from './command.ts';

/** Any key that begins so is welcome at the local Stripe. */
const LOCAL_KEY = 'sk_test_driftstack_local';

/** Where a start leaves the address of its local Stripe: another checkout may have the usual port. */
export function localStripeAddress({ dataDir }: Pick<Config, 'dataDir'>): string {
  return join(dataDir, 'stripe.url');
}

/** The calls we make, to the local Stripe at this address. */
export function connectLocalStripe(url: string): StripeGateway {
  return connectStripe({ secretKey: LOCAL_KEY, apiBase: url });
}

/**
 * The Stripe that this deployment works with: the real one, or the local one that `npm start` runs. Throws a
 * UsageError where that has never run.
 */
export function reachStripe(config: Config): StripeGateway {
  if (config.stripe.kind === 'real') return connectStripe(config.stripe);
  const address = localStripeAddress(config);
  if (!existsSync(address)) throw new UsageError('the local Stripe is not running: npm start');
  return connectLocalStripe(readFileSync(address, 'utf8'));
}

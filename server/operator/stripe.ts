import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../shared/time.ts';
import type { Config } from '../config.ts';
import { connectStripe, type StripeGateway } from '../stripe/api/gateway.ts';
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

/**
 * The time this deployment lives in: real time, or that of the local Stripe, whose clock may have been moved; while
 * it is stopped, `stoppedAheadMs` knows by how much. A command that judged by another time would take back what has
 * happened.
 */
export async function deploymentClock(
  config: Config,
  stoppedAheadMs: (config: Config) => Promise<number>,
): Promise<Clock> {
  if (config.stripe.kind === 'real') return { now: () => new Date() };
  const ahead = (await runningAheadMs(localStripeAddress(config))) ?? (await stoppedAheadMs(config));
  return { now: () => new Date(Date.now() + ahead), aheadMs: () => ahead };
}

const aheadSchema = z.object({ aheadSeconds: z.number() });
const ASK_TIMEOUT_MS = 2_000;

/** Null where it does not run. */
async function runningAheadMs(address: string): Promise<number | null> {
  if (!existsSync(address)) return null;
  try {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const answer = await fetch(`${readFileSync(address, 'utf8')}/_sandbox`, { signal });
    return aheadSchema.parse(await answer.json()).aheadSeconds * 1_000;
  } catch {
    // Nothing answers there; what its port answers otherwise is no clock.
    return null;
  }
}

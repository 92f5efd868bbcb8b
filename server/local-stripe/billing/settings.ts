import type { World } from '../world.ts';

/** What Stripe's dashboard decides under Billing settings. */
export interface BillingSettings {
  /** How long an automatic invoice stays a draft. Stripe waits an hour; 0 finalizes it in the same turn. */
  readonly draftSeconds: number;
  /** Days from each failed attempt to the next. */
  readonly retryDays: readonly number[];
  /** What becomes of a subscription once all retries have failed. */
  readonly afterRetries: 'cancel' | 'unpaid' | 'past_due';
}

const DEFAULTS: BillingSettings = { draftSeconds: 0, retryDays: [3, 5, 7], afterRetries: 'cancel' };

/** The settings in force. */
export function billingSettings(world: World): BillingSettings {
  return { ...DEFAULTS, ...world.hidden.get<Partial<BillingSettings>>('settings', 'billing') };
}

/** Changes some of the settings, for what happens from now on. */
export function setBillingSettings(world: World, change: Partial<BillingSettings>): BillingSettings {
  const settings = { ...billingSettings(world), ...change };
  world.hidden.put('settings', 'billing', settings);
  return settings;
}

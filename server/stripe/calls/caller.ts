import type Stripe from 'stripe';
import { callStripe, type Patience } from './call.ts';
import { isMissing } from './refusal.ts';

/** What every call to Stripe is made with. */
export type Caller = {
  readonly stripe: Stripe;
  /** Makes one call within its time, and throws what a caller may see; see `callStripe`. */
  readonly call: <T extends { object: string }>(
    expected: T['object'],
    attempt: (options: { timeout: number }) => Promise<T>,
  ) => Promise<T>;
  /** Null for what Stripe does not know. */
  readonly found: <T>(reading: Promise<T>) => Promise<T | null>;
};

/** A caller over this connection; `patience` is asked anew for each call. */
export function callerOf(stripe: Stripe, patience: () => Patience): Caller {
  return {
    stripe,
    call: (expected, attempt) => callStripe(patience(), expected, attempt),
    async found(reading) {
      try {
        return await reading;
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
  };
}

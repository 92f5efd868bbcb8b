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
  /** All that a list holds, page by page. */
  readonly all: <T extends { id: string }>(ask: AskPage<T>) => Promise<T[]>;
};

type AskPage<T> = (
  options: { timeout: number },
  after: { starting_after?: string },
) => Promise<Stripe.ApiList<T>>;

/** A caller over this connection; `patience` is asked anew for each call. */
export function callerOf(stripe: Stripe, patience: () => Patience): Caller {
  const call: Caller['call'] = (expected, attempt) => callStripe(patience(), expected, attempt);
  return {
    stripe,
    call,
    async found(reading) {
      try {
        return await reading;
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    async all<T extends { id: string }>(ask: AskPage<T>): Promise<T[]> {
      const seen: T[] = [];
      for (;;) {
        const last = seen.at(-1);
        const after = last ? { starting_after: last.id } : {};
        const page = await call<Stripe.ApiList<T>>('list', (options) => ask(options, after));
        seen.push(...page.data);
        if (!page.has_more || page.data.length === 0) return seen;
      }
    },
  };
}

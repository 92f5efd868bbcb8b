import { setTimeout as delay } from 'node:timers/promises';
import Stripe from 'stripe';
import { ProblemError } from '../../../shared/errors.ts';
import { inTime } from '../../database/in-time.ts';
import type { CallLimiter, Urgency } from './limiter.ts';
import { isPassing, translate } from './refusal.ts';

/** How long Stripe may keep us waiting: one try, and all tries of a budget together (`performance.now()`). */
export type Patience = {
  readonly tryMs: number;
  readonly endsAtMs: number;
  /** Who counts our calls, and who waits for this one. */
  readonly limiter: CallLimiter;
  readonly urgency: Urgency;
};

const MOST_TRIES = 4;
const SHORTEST_TRY_MS = 50;
const FIRST_BACK_OFF_MS = 500;

/**
 * Makes one call to Stripe within the patience given. The SDK repeats what the network lost; a plain 429 and a
 * key still in use, which it does not repeat, are tried again here. Throws a `ProblemError` that a caller may
 * see, with Stripe's own error as its cause.
 */
export async function callStripe<T extends { object: string }>(
  patience: Patience,
  expected: T['object'],
  attempt: (options: { timeout: number }) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    if (!(await patience.limiter.turn(patience.urgency, patience.endsAtMs - SHORTEST_TRY_MS)))
      throw tooSlow();
    const leftMs = patience.endsAtMs - performance.now();
    if (leftMs < SHORTEST_TRY_MS) throw tooSlow();
    try {
      const timeout = Math.ceil(Math.min(patience.tryMs, leftMs));
      // The SDK's timeout restarts with every byte and every retry; this bound holds whatever the network does.
      const answer = await inTime(attempt({ timeout }), leftMs, tooSlow);
      // stripe-node hands over any JSON without an `error` member as if it were the object asked for, whatever
      // its status: a proxy's error page in JSON would otherwise pass for a customer.
      if (answer.object !== expected) throw notUnderstood();
      return answer;
    } catch (error) {
      const waitMs = backOffMs(error, tries);
      if (isTooMuch(error)) patience.limiter.hold(waitMs ?? FIRST_BACK_OFF_MS);
      if (waitMs === null || performance.now() + waitMs >= patience.endsAtMs) throw translate(error);
      await delay(waitMs);
    }
  }
}

const isTooMuch = (error: unknown): boolean =>
  error instanceof Stripe.errors.StripeError && error.statusCode === 429;

function backOffMs(error: unknown, tries: number): number | null {
  if (!(error instanceof Stripe.errors.StripeError) || tries >= MOST_TRIES) return null;
  if (error.statusCode !== 429 && !isPassing(error)) return null;
  const asked = Number(error.headers?.['retry-after']);
  return asked > 0 ? asked * 1000 : FIRST_BACK_OFF_MS * 2 ** (tries - 1);
}

const tooSlow = () =>
  new ProblemError('internal', 'Stripe did not answer in time. Please try again shortly.', {
    status: 504,
    retryAfterSeconds: 5,
  });

const notUnderstood = () =>
  new ProblemError('internal', 'Stripe sent an answer that is not its own. Please try again shortly.', {
    status: 502,
    retryAfterSeconds: 5,
  });

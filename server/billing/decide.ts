import type { CheckoutAttempt } from '../database/entities/billing.ts';

/** What a minting call does next with the account's open attempt, if it has one. */
export type Step =
  | { do: 'begin' }
  /** The same call to Stripe as before, under the same key: gives the session that may already exist. */
  | { do: 'create'; attempt: CheckoutAttempt }
  | { do: 'reuse'; attempt: CheckoutAttempt; sessionId: string }
  | { do: 'close'; attempt: CheckoutAttempt; sessionId: string }
  /** Its time is over, so nothing of it can be paid any more. */
  | { do: 'forget'; attempt: CheckoutAttempt }
  /** Completed by a delayed method: Stripe knows whether the money has come by now. */
  | { do: 'refresh'; attempt: CheckoutAttempt; sessionId: string };

/** A session handed out has to live long enough to be paid. */
const SHORTEST_LIFE_MS = 10 * 60_000;

/** Decides from the open attempt, the parameters wanted now and the time. */
export function decide(attempt: CheckoutAttempt | null, paramsHash: Buffer, now: Date): Step {
  if (!attempt) return { do: 'begin' };
  const { stripeSessionId: sessionId } = attempt;
  const livesMs = attempt.expiresAt.getTime() - now.getTime();
  if (!sessionId) {
    // Not known to exist, nor known not to: it is created, again or at last, and then closed like any other.
    return livesMs <= 0 ? { do: 'forget', attempt } : { do: 'create', attempt };
  }
  switch (attempt.state) {
    case 'awaiting_payment':
      return { do: 'refresh', attempt, sessionId };
    case 'open': {
      const same = Buffer.from(attempt.paramsHash).equals(paramsHash);
      const usable = same && livesMs >= SHORTEST_LIFE_MS;
      return usable ? { do: 'reuse', attempt, sessionId } : { do: 'close', attempt, sessionId };
    }
    case 'creating':
      return { do: 'create', attempt };
    case 'closing':
    case 'completed':
    case 'expired':
      return { do: 'close', attempt, sessionId };
  }
}

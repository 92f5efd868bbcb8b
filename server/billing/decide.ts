import { priceOf, sessionParams } from './session-params.ts';
import type { Attempt, Facts } from './turn.ts';

/** What a minting call does next. */
export type Step =
  /** The account may not buy this now. */
  | { do: 'refuse' }
  /** Stripe's customer is made first. */
  | { do: 'customer' }
  /** Somebody else has begun an attempt at the same moment. */
  | { do: 'look_again' }
  /**
   * `begun` by this call, so that its session cannot be older than it; else it is the same call to Stripe as before,
   * under the same key, and gives the session that may already exist.
   */
  | { do: 'create'; attempt: Attempt; begun: boolean }
  | { do: 'reuse'; attempt: Attempt; sessionId: string }
  /** The open session is at another price than the one we remember: Stripe is asked which one is right. */
  | { do: 'ask_price' }
  | { do: 'close'; attempt: Attempt; sessionId: string }
  /** Its time is over, so nothing of it can be paid any more. */
  | { do: 'forget'; attempt: Attempt }
  /** Completed by a delayed method: Stripe knows whether the money has come by now. */
  | { do: 'refresh'; attempt: Attempt; sessionId: string };

/** What is to be sold now. */
export type Wanted = {
  paramsHash: Buffer;
  price: string;
  /** Whether Stripe named this price during this call; otherwise it is remembered from an earlier one. */
  priceIsFresh: boolean;
};

/** A session handed out has to live long enough to be paid. */
const SHORTEST_LIFE_MS = 10 * 60_000;

/**
 * Decides from what the account has, what is wanted now and the time. The time is the distance between two readings of
 * our clock; that of Stripe may differ by any amount.
 */
export function decide({ refused, account, begun, open }: Facts, wanted: Wanted, now: Date): Step {
  if (refused) return { do: 'refuse' };
  if (begun) return { do: 'create', attempt: begun, begun: true };
  if (account.stripeCustomerId === null) return { do: 'customer' };
  return open ? goOn(open, wanted, now) : { do: 'look_again' };
}

function goOn(attempt: Attempt, wanted: Wanted, now: Date): Step {
  const { stripeSessionId: sessionId } = attempt;
  const livesMs = attempt.expiresAt.getTime() - now.getTime();
  if (!sessionId) {
    // Not known to exist, nor known not to: it is created, again or at last, and then closed like any other. Once
    // Stripe has forgotten the key, after a day at least, the session of a day that it made under it is over too.
    // An attempt that fixed its end itself cannot be created past it.
    const isOver = livesMs <= 0 && sessionParams.parse(attempt.params).expires_at !== undefined;
    return isOver ? { do: 'forget', attempt } : { do: 'create', attempt, begun: false };
  }
  switch (attempt.state) {
    case 'awaiting_payment':
      return { do: 'refresh', attempt, sessionId };
    case 'open': {
      if (!isSameOrder(attempt, wanted) || livesMs < SHORTEST_LIFE_MS)
        return { do: 'close', attempt, sessionId };
      if (isAtPrice(attempt, wanted)) return { do: 'reuse', attempt, sessionId };
      return wanted.priceIsFresh ? { do: 'close', attempt, sessionId } : { do: 'ask_price' };
    }
    case 'creating':
      return { do: 'create', attempt, begun: false };
    case 'closing':
    case 'completed':
    case 'expired':
      return { do: 'close', attempt, sessionId };
  }
}

/** Whether the session of an attempt is what is wanted now. */
export function isWanted(attempt: Attempt, wanted: Omit<Wanted, 'priceIsFresh'>): boolean {
  return isSameOrder(attempt, wanted) && isAtPrice(attempt, wanted);
}

const isSameOrder = ({ paramsHash }: Attempt, wanted: Pick<Wanted, 'paramsHash'>): boolean =>
  Buffer.from(paramsHash).equals(wanted.paramsHash);

/** The price is compared where it was stored all along, so that attempts from before need no other hash. */
const isAtPrice = ({ params }: Attempt, { price }: Pick<Wanted, 'price'>): boolean =>
  priceOf(sessionParams.parse(params)) === price;

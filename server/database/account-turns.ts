import { ProblemError } from '../../shared/errors.ts';
import { inTime } from './in-time.ts';

export type AccountTurns = <T>(accountId: string, work: () => Promise<T>) => Promise<T>;

/**
 * Does work about the same account one after the other, in the order it came. Whoever's turn has not come after
 * `patienceMs` gets 503, and their work is never begun; what has begun may take as long as it takes.
 */
export function createAccountTurns(patienceMs: number): AccountTurns {
  /** The end of everything begun about an account so far. */
  const tails = new Map<string, Promise<unknown>>();

  const inTurn = async <T>(before: Promise<unknown>, work: () => Promise<T>): Promise<T> => {
    await inTime(before, patienceMs, tooBusy);
    return await work();
  };
  return async (accountId, work) => {
    const before = tails.get(accountId);
    const mine = before ? inTurn(before, work) : work();
    // Whoever gives up leaves those before still at work.
    const tail = Promise.allSettled([before, mine]);
    tails.set(accountId, tail);
    try {
      return await mine;
    } finally {
      void tail.then(() => {
        if (tails.get(accountId) === tail) tails.delete(accountId);
      });
    }
  };
}

/** The refusal of a call that others have kept from its turn for too long. */
export const tooBusy = () =>
  new ProblemError('internal', 'This account is busy with other calls. Please try again shortly.', {
    status: 503,
    retryAfterSeconds: 3,
  });

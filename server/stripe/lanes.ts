import { setTimeout as delay } from 'node:timers/promises';
import { ProblemError } from '../../shared/errors.ts';

/** How many runs of one kind go side by side. */
export type Places = {
  /** Resolves once there is a place; throws what `late` makes when there was none in time. */
  enter(patienceMs: number): Promise<void>;
  leave(): void;
};

export type Lane = {
  /** What a run is about: never two at a time. */
  readonly key: string;
  /** Who waits for the same thing to be done about it; they share the next run. */
  readonly share: string;
  readonly places: Places;
  /** How long a run waits for the one before it, and again for a place. */
  readonly patienceMs: { readonly turn: number; readonly place: number };
};

/** Does `work` in its lane, or shares the outcome of a run that has yet to begin. */
export type Lanes<T> = (lane: Lane, work: () => Promise<T>) => Promise<T>;

/** So many places, given in the order in which they were asked for. */
export function createPlaces(atOnce: number): Places {
  const queue = new Set<() => void>();
  let free = atOnce;
  return {
    async enter(patienceMs) {
      if (free > 0) {
        free -= 1;
        return;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      queue.add(resolve);
      await inTime(promise, patienceMs, () => queue.delete(resolve));
    },
    leave() {
      const [next] = queue;
      if (next) {
        queue.delete(next);
        next();
      } else free += 1;
    },
  };
}

/**
 * Runs about different things go side by side, as many as there are places, never two about the same thing.
 * Whoever comes while one is under way waits for the next one, which all who want the same share: it begins
 * after each of them has asked. If it cannot begin in time those who wait are refused, so that what hangs holds
 * up nobody who could do something else meanwhile.
 */
export function createLanes<T>(): Lanes<T> {
  const waiting = new Map<string, Promise<T>>();
  /** The end of everything begun about a thing so far. */
  const tails = new Map<string, Promise<unknown>>();

  const run = async (lane: Lane, before: Promise<unknown>, name: string, work: () => Promise<T>) => {
    const { places, patienceMs } = lane;
    try {
      await inTime(before, patienceMs.turn);
      await places.enter(patienceMs.place);
    } finally {
      waiting.delete(name);
    }
    try {
      return await work();
    } finally {
      places.leave();
    }
  };
  return (lane, work) => {
    const name = JSON.stringify([lane.key, lane.share]);
    const shared = waiting.get(name);
    if (shared) return shared;
    const before = tails.get(lane.key) ?? Promise.resolve();
    const mine = run(lane, before, name, work);
    waiting.set(name, mine);
    // Whoever is refused leaves the run before it still under way.
    const tail = Promise.allSettled([before, mine]);
    tails.set(lane.key, tail);
    void tail.then(() => {
      if (tails.get(lane.key) === tail) tails.delete(lane.key);
    });
    return mine;
  };
}

/** Waits for it however it ends, and throws when that takes too long. */
async function inTime(end: Promise<unknown>, patienceMs: number, giveUp?: () => void): Promise<void> {
  if (patienceMs === Number.POSITIVE_INFINITY) {
    await end;
    return;
  }
  const timer = new AbortController();
  const tooLong = delay(patienceMs, undefined, { signal: timer.signal }).then(() => {
    giveUp?.();
    throw stillUnderWay();
  });
  // The loser of the race must not surface as an unhandled rejection.
  tooLong.catch(() => {});
  try {
    await Promise.race([end, tooLong]);
  } finally {
    timer.abort();
  }
}

const stillUnderWay = () =>
  new ProblemError(
    'internal',
    'Stripe is being read for this account or for others, and that is still under way. Please try again shortly.',
    { status: 503, retryAfterSeconds: 3 },
  );

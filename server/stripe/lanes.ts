import { setTimeout as delay } from 'node:timers/promises';

/** Runs `work` about the thing named by the key, or shares the outcome of a run that has yet to begin. */
export type Lanes<T> = (key: string, work: () => Promise<T>) => Promise<T>;

/**
 * Lets at most `atOnce` runs go side by side, never two about the same thing. Whoever comes while one is under
 * way waits for the next one, which all who wait share: it begins after each of them has asked. If the one
 * under way has not ended after `patienceMs`, those who wait are refused, so that what hangs holds up nobody
 * who could do something else meanwhile.
 */
export function createLanes<T>({ atOnce, patienceMs }: { atOnce: number; patienceMs: number }): Lanes<T> {
  const waiting = new Map<string, Promise<T>>();
  const running = new Map<string, Promise<T>>();
  const queue: (() => void)[] = [];
  let free = atOnce;

  const enter = async (): Promise<void> => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => queue.push(resolve));
  };
  const leave = (): void => {
    const next = queue.shift();
    if (next) next();
    else free += 1;
  };
  const runInTurn = async (key: string, work: () => Promise<T>): Promise<T> => {
    try {
      await endOf(running.get(key), patienceMs);
      await enter();
    } finally {
      waiting.delete(key);
    }
    const run = work();
    running.set(key, run);
    try {
      return await run;
    } finally {
      running.delete(key);
      leave();
    }
  };
  return (key, work) => {
    const shared = waiting.get(key);
    if (shared) return shared;
    const mine = runInTurn(key, work);
    waiting.set(key, mine);
    return mine;
  };
}

/** However it ends. */
async function endOf(run: Promise<unknown> | undefined, patienceMs: number): Promise<void> {
  const timer = new AbortController();
  const tooLong = delay(patienceMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error('An earlier event of the same account is still under way.');
  });
  // The loser of the race must not surface as an unhandled rejection.
  tooLong.catch(() => {});
  const ended = run?.then(
    () => undefined,
    () => undefined,
  );
  try {
    await Promise.race([ended, tooLong]);
  } finally {
    timer.abort();
  }
}

import { setTimeout as delay } from 'node:timers/promises';

/**
 * Lets whoever asks meanwhile share one run of `work`. Nobody gets what was found before they asked, and runs begin
 * at least `pauseMs` apart: however many ask, the work is done no more often than that.
 */
export function sharedRun<T>(
  work: () => Promise<T>,
  { pauseMs, sleep = delay }: { pauseMs: number; sleep?: (ms: number) => Promise<unknown> },
): () => Promise<T> {
  let next: Promise<T> | undefined;
  let last: Promise<unknown> = Promise.resolve();

  const run = async (before: Promise<unknown>): Promise<T> => {
    await before;
    next = undefined;
    const running = work();
    last = Promise.allSettled([running, sleep(pauseMs)]);
    return await running;
  };
  return () => {
    next ??= run(last);
    return next;
  };
}

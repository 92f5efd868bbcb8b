import { setTimeout as sleep } from 'node:timers/promises';

/** Some fifteen calls a second: Stripe allows 25 with a test key and 100 with a live one. */
const ACCOUNTS_PER_SECOND = 5;

/**
 * Keeps a comparison of all accounts slow, so that it leaves Stripe's limits to whoever waits for an answer. Each call
 * resolves a fifth of a second after the one before it, or at once where that is past; for one caller, who awaits it.
 */
export function createThrottle(
  nowMs: () => number = () => performance.now(),
  wait: (durationMs: number) => Promise<unknown> = sleep,
): () => Promise<void> {
  let freeAtMs = 0;
  return async () => {
    const waitMs = freeAtMs - nowMs();
    if (waitMs > 0) await wait(waitMs);
    freeAtMs = nowMs() + 1_000 / ACCOUNTS_PER_SECOND;
  };
}

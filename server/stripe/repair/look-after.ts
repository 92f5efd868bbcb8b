import { repeat, type Series } from '../../database/recurring.ts';
import type { SyncDeps } from '../deps.ts';
import { type CatchUpDeps, catchUp } from './catch-up.ts';
import type { Difference } from './drift.ts';
import { sweep } from './sweep.ts';
import { createThrottle } from './throttle.ts';

export type LookAfterDeps = CatchUpDeps &
  SyncDeps & {
    onMissed: (events: number) => void;
    onDrift: (differences: readonly Difference[]) => void;
  };

/** How often this process asks whether it is its turn; that costs one statement. */
const CATCH_UP_PAUSE_MS = 5_000;
const SWEEP_PAUSE_MS = 60_000;

/** Finds what Stripe did not tell, or not reach us with, or what got lost here, for as long as it is not closed. */
export function lookAfterStripe(deps: LookAfterDeps): Series {
  const { log } = deps;
  const throttle = createThrottle();
  const series = [
    repeat(
      async () => {
        const missed = await catchUp(deps);
        if (missed !== null) deps.onMissed(missed);
      },
      {
        pauseMs: CATCH_UP_PAUSE_MS,
        onError: (err) =>
          log.warn({ err }, 'Stripe could not be asked for missed events; the next turn will'),
      },
    ),
    repeat(
      async (signal) => {
        await sweep({ ...deps, throttle }, signal);
      },
      {
        pauseMs: SWEEP_PAUSE_MS,
        onError: (err) =>
          log.warn({ err }, 'the comparison with Stripe stopped; it goes on in a few minutes'),
      },
    ),
  ];
  return {
    async close() {
      await Promise.all(series.map((one) => one.close()));
    },
  };
}

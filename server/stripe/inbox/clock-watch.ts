import { raise } from '../alarm.ts';
import type { SyncDeps } from '../deps.ts';
import { explainClock, isOnTime, type OnSigned } from './signature.ts';

/** How often the operator is told of one and the same trouble. */
const PAUSE_MS = 60_000;

/**
 * Has the operator look at the clocks when what Stripe did sign is refused for its time: as long as one is off,
 * every delivery is. Told once a minute at most, however many come.
 */
export function watchClock(
  deps: Pick<SyncDeps, 'log' | 'onAlarm'> & { readonly nowMs: () => number },
): OnSigned {
  let quietUntil = Number.NEGATIVE_INFINITY;
  return (aheadSeconds) => {
    if (isOnTime(aheadSeconds) || deps.nowMs() < quietUntil) return;
    quietUntil = deps.nowMs() + PAUSE_MS;
    const reason = `A delivery signed by Stripe was refused: ${explainClock(aheadSeconds)} Either the clock is wrong, and then every delivery is refused until it is set, or an old delivery was sent again.`;
    raise(deps, null, { kind: 'clock_off', details: { ahead_seconds: aheadSeconds, reason } });
  };
}

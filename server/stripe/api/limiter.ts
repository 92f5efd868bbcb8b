/** Whoever waits for an answer goes before what nobody waits for. */
export type Urgency = 'person' | 'work';

export type CallLimiter = {
  /** Resolves when a call may be made, people first; false when its time has come to nothing by `endsAtMs`. */
  turn(urgency: Urgency, endsAtMs: number): Promise<boolean>;
  /** Lets nobody through for this long: Stripe has said that it is enough. */
  hold(durationMs: number): void;
};

export type LimiterOptions = {
  readonly perSecond: number;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
  /** Calls back after so many milliseconds; what it returns takes that back. */
  readonly after: (durationMs: number, call: () => void) => () => void;
};

/**
 * A little longer than the second that Stripe counts: no second at Stripe sees more than `perSecond` as long as calls
 * are on the way for times that differ by 40 ms at most. A longer one would cost more than a twentieth of the allowance.
 */
const WINDOW_MS = 1_040;
/**
 * A tenth of the allowance may leave at once, and the next tenth after a little less than a tenth of a second, so that
 * a late timer costs nothing. Calls that differ by more on the way than they may exceed the allowance by a tenth for
 * each of these, and not by all of a second's.
 */
const SLICE_MS = 90;

type Waiting = {
  readonly urgency: Urgency;
  readonly endsAtMs: number;
  readonly answer: (mayCall: boolean) => void;
};

/**
 * At most `perSecond` calls to Stripe in any second, and a tenth of them, though one at least, in a tenth of one: in the
 * order they came, and those of people first. Who comes when none was made for a while need not wait. Stripe counts
 * all calls of a key together, so this bounds one process: several share the limit by a smaller figure each.
 */
export function createCallLimiter({ perSecond, nowMs, after }: LimiterOptions): CallLimiter {
  const tenth = Math.ceil(perSecond / 10);
  /** When the last `perSecond` calls were made, oldest first. */
  const made: number[] = [];
  let waiting: Waiting[] = [];
  let heldUntilMs = 0;
  let takeBack: (() => void) | null = null;

  const freeAtMs = (): number => {
    const [ofWindow, ofSlice] = [made.at(-perSecond), made.at(-tenth)];
    return Math.max(
      ofWindow === undefined ? 0 : ofWindow + WINDOW_MS,
      ofSlice === undefined ? 0 : ofSlice + SLICE_MS,
      heldUntilMs,
    );
  };
  const pump = (): void => {
    takeBack?.();
    takeBack = null;
    for (;;) {
      const now = nowMs();
      const soonest = Math.max(now, freeAtMs());
      for (const one of waiting) if (one.endsAtMs < soonest) one.answer(false);
      waiting = waiting.filter(({ endsAtMs }) => endsAtMs >= soonest);
      const next = waiting.find(({ urgency }) => urgency === 'person') ?? waiting[0];
      if (!next) return;
      if (soonest > now) {
        takeBack = after(soonest - now, pump);
        return;
      }
      waiting = waiting.filter((one) => one !== next);
      made.push(now);
      if (made.length > perSecond) made.shift();
      next.answer(true);
    }
  };

  return {
    async turn(urgency, endsAtMs) {
      const { promise, resolve } = Promise.withResolvers<boolean>();
      waiting.push({ urgency, endsAtMs, answer: resolve });
      pump();
      return await promise;
    },
    hold(durationMs) {
      heldUntilMs = Math.max(heldUntilMs, nowMs() + durationMs);
      // Whose time is over by then is told now.
      pump();
    },
  };
}

/** The same by the clocks of this process. */
export function callsPerSecond(perSecond: number): CallLimiter {
  return createCallLimiter({
    perSecond,
    nowMs: () => performance.now(),
    after(durationMs, call) {
      const timer = setTimeout(call, Math.ceil(durationMs));
      return () => clearTimeout(timer);
    },
  });
}

/** For whoever is not counted, as the local Stripe's callers. */
export const UNLIMITED: CallLimiter = { turn: async () => true, hold: () => undefined };

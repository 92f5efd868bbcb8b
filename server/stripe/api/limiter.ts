/** Whoever waits for an answer goes before what nobody waits for. */
export type Urgency = 'person' | 'work';

/** A call that wants to be made. */
export type Call = {
  readonly urgency: Urgency;
  /** When it would come to nothing. */
  readonly endsAtMs: number;
  /** What Stripe counts together, such as `GET /v1/customers/:id`. */
  readonly endpoint: string;
};

export type CallLimiter = {
  /** Resolves when the call may be made, people first; false when its time has come to nothing. */
  turn(call: Call): Promise<boolean>;
  /**
   * Lets no call through for this long, or none to one endpoint: Stripe has said that it is enough. An endpoint has a
   * quarter of the allowance afterwards.
   */
  hold(durationMs: number, endpoint?: string): void;
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

/**
 * Stripe allows 100 calls a second with a live key, and 25 to one endpoint unless it has agreed on more. Which of the two
 * it is, only Stripe knows, so an endpoint is slowed down when Stripe says so, and tried again after a while.
 */
const ENDPOINT_SHARE = 1 / 4;
const SLOW_MS = 10 * 60_000;

type Waiting = Call & { readonly answer: (mayCall: boolean) => void };

/** When calls were made, and from when on another one may be. */
function createPace(perSecond: number) {
  const tenth = Math.ceil(perSecond / 10);
  /** When the last `perSecond` calls were made, oldest first. */
  const made: number[] = [];
  return {
    freeAtMs(): number {
      const [ofWindow, ofSlice] = [made.at(-perSecond), made.at(-tenth)];
      return Math.max(
        ofWindow === undefined ? 0 : ofWindow + WINDOW_MS,
        ofSlice === undefined ? 0 : ofSlice + SLICE_MS,
      );
    },
    add(atMs: number): void {
      made.push(atMs);
      if (made.length > perSecond) made.shift();
    },
  };
}

/** An endpoint of which Stripe has said that it is called too often. */
type Slow = { readonly pace: ReturnType<typeof createPace>; heldUntilMs: number; untilMs: number };

/**
 * At most `perSecond` calls to Stripe in any second, and a tenth of them, though one at least, in a tenth of one: in the
 * order they came, and those of people first. Who comes when none was made for a while need not wait. Stripe counts
 * all calls of a key together, so this bounds one process: several share the limit by a smaller figure each.
 */
export function createCallLimiter({ perSecond, nowMs, after }: LimiterOptions): CallLimiter {
  const all = createPace(perSecond);
  const slow = new Map<string, Slow>();
  let waiting: Waiting[] = [];
  let heldUntilMs = 0;
  let takeBack: (() => void) | null = null;

  const slowed = (endpoint: string, now: number): Slow | undefined => {
    const one = slow.get(endpoint);
    if (one && one.untilMs <= now) slow.delete(endpoint);
    return slow.get(endpoint);
  };
  /** Answers whoever would come too late; of the others, who is next to go now, or when the first of them may. */
  const sift = (now: number): { next: Waiting | null; firstAtMs: number } => {
    const everybodyAtMs = Math.max(now, heldUntilMs, all.freeAtMs());
    let next: Waiting | null = null;
    let firstAtMs = Number.POSITIVE_INFINITY;
    waiting = waiting.filter((one) => {
      const own = slowed(one.endpoint, now);
      const atMs = own ? Math.max(everybodyAtMs, own.heldUntilMs, own.pace.freeAtMs()) : everybodyAtMs;
      if (one.endsAtMs < atMs) {
        one.answer(false);
        return false;
      }
      firstAtMs = Math.min(firstAtMs, atMs);
      if (atMs <= now && (next === null || (one.urgency === 'person' && next.urgency !== 'person')))
        next = one;
      return true;
    });
    return { next, firstAtMs };
  };
  const pump = (): void => {
    takeBack?.();
    takeBack = null;
    for (;;) {
      const now = nowMs();
      const { next, firstAtMs } = sift(now);
      if (next === null) {
        if (waiting.length > 0) takeBack = after(firstAtMs - now, pump);
        return;
      }
      waiting = waiting.filter((one) => one !== next);
      all.add(now);
      slowed(next.endpoint, now)?.pace.add(now);
      next.answer(true);
    }
  };

  return {
    async turn(call) {
      const { promise, resolve } = Promise.withResolvers<boolean>();
      waiting.push({ ...call, answer: resolve });
      pump();
      return await promise;
    },
    hold(durationMs, endpoint) {
      const now = nowMs();
      if (endpoint === undefined) {
        heldUntilMs = Math.max(heldUntilMs, now + durationMs);
      } else {
        const pace = createPace(Math.max(1, Math.floor(perSecond * ENDPOINT_SHARE)));
        const one = slowed(endpoint, now) ?? { pace, heldUntilMs: 0, untilMs: 0 };
        one.heldUntilMs = Math.max(one.heldUntilMs, now + durationMs);
        one.untilMs = now + durationMs + SLOW_MS;
        slow.set(endpoint, one);
      }
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
export const UNLIMITED: CallLimiter = {
  turn: async ({ endsAtMs }) => performance.now() <= endsAtMs,
  hold: () => undefined,
};

export type Pace = {
  /** Resolves when the next mail may be sent; callers are let through one by one. */
  turn(): Promise<void>;
  /** Lets nobody through for this long. */
  hold(durationMs: number): void;
};

export type PaceOptions = {
  perSecond: number;
  /** Milliseconds of a clock that never goes back. */
  nowMs: () => number;
  sleep: (durationMs: number) => Promise<void>;
};

/** Spaces mails evenly, so that a burst stays under the limit of the provider (Resend: 2 a second). */
export function createPace({ perSecond, nowMs, sleep }: PaceOptions): Pace {
  const gapMs = 1_000 / perSecond;
  let freeAtMs = 0;
  return {
    async turn() {
      const mineAtMs = Math.max(freeAtMs, nowMs());
      freeAtMs = mineAtMs + gapMs;
      const waitMs = mineAtMs - nowMs();
      if (waitMs > 0) await sleep(waitMs);
    },
    hold(durationMs) {
      freeAtMs = Math.max(freeAtMs, nowMs() + durationMs);
    },
  };
}

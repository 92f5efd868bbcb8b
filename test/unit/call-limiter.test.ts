import { expect, it } from 'vitest';
import { type CallLimiter, createCallLimiter } from '../../server/stripe/api/limiter.ts';

/** A limiter in a time of its own, and when each call was let through. */
function limited(perSecond: number) {
  let nowMs = 0;
  const timers = new Map<symbol, { atMs: number; call: () => void }>();
  const limiter: CallLimiter = createCallLimiter({
    perSecond,
    nowMs: () => nowMs,
    after(durationMs, call) {
      const id = Symbol('timer');
      timers.set(id, { atMs: nowMs + durationMs, call });
      return () => void timers.delete(id);
    },
  });
  const through: { who: string; atMs: number }[] = [];
  const refused: { who: string; atMs: number }[] = [];
  const settle = async (): Promise<void> => {
    for (let turns = 0; turns < 50; turns += 1) await Promise.resolve();
  };
  return {
    limiter,
    through,
    refused,
    call(who: string, urgency: 'person' | 'work' = 'work', endsAtMs = Number.POSITIVE_INFINITY): void {
      void limiter
        .turn(urgency, endsAtMs)
        .then((may) => (may ? through : refused).push({ who, atMs: nowMs }));
    },
    async until(endMs: number): Promise<void> {
      await settle();
      for (;;) {
        const [next] = [...timers].sort(([, a], [, b]) => a.atMs - b.atMs);
        if (!next || next[1].atMs > endMs) break;
        const [id, { atMs, call }] = next;
        timers.delete(id);
        nowMs = atMs;
        call();
        await settle();
      }
      nowMs = endMs;
    },
  };
}

/** The most calls in any one second, by looking at each second that begins with a call. */
const most = (through: readonly { atMs: number }[]): number =>
  Math.max(
    ...through.map(
      ({ atMs: from }) => through.filter(({ atMs }) => atMs >= from && atMs < from + 1_000).length,
    ),
  );

it('never lets more through in any second, and hardly fewer', async () => {
  const { call, through, until } = limited(100);
  for (let n = 0; n < 2_000; n += 1) call(`call ${n}`);
  await until(10_000);
  expect(most(through)).toBe(100);
  expect(through.length).toBeGreaterThanOrEqual(95 * 10);
});

it('makes nobody wait while there is room, and keeps the order', async () => {
  const { call, through, until } = limited(20);
  for (let n = 0; n < 30; n += 1) call(String(n));
  await until(0);
  expect(through.map(({ who }) => who)).toEqual(Array.from({ length: 20 }, (_, n) => String(n)));
  await until(2_000);
  expect(through.map(({ who }) => who)).toEqual(Array.from({ length: 30 }, (_, n) => String(n)));
});

it('lets people go before what nobody waits for', async () => {
  const { call, through, until } = limited(2);
  for (const who of ['a', 'b', 'c', 'd', 'e']) call(who);
  call('person', 'person');
  await until(5_000);
  expect(through.map(({ who }) => who)).toEqual(['a', 'b', 'person', 'c', 'd', 'e']);
});

it('lets nobody through while Stripe has said that it is enough, people included', async () => {
  const { call, limiter, through, until } = limited(10);
  call('before');
  await until(100);
  limiter.hold(3_000);
  call('work');
  call('person', 'person');
  await until(3_000);
  expect(through.map(({ who }) => who)).toEqual(['before']);
  await until(3_200);
  expect(through.map(({ who, atMs }) => `${who} ${atMs}`)).toEqual(['before 0', 'person 3100', 'work 3100']);
});

it('tells whoever would come too late at once, and gives their place to others', async () => {
  const { call, through, refused, until } = limited(1);
  call('first');
  call('impatient', 'work', 500);
  call('patient');
  await until(0);
  expect(refused).toEqual([{ who: 'impatient', atMs: 0 }]);
  await until(1_500);
  expect(through.map(({ who }) => who)).toEqual(['first', 'patient']);
});

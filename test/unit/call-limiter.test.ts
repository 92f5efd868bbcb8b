import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type CallLimiter, createCallLimiter } from '../../server/stripe/api/limiter.ts';

/** A limiter in a time of its own, and when each call was let through; timers call as late as `lateMs` says. */
function limited(perSecond: number, lateMs = (): number => 0) {
  let nowMs = 0;
  const timers = new Map<symbol, { atMs: number; call: () => void }>();
  const limiter: CallLimiter = createCallLimiter({
    perSecond,
    nowMs: () => nowMs,
    after(durationMs, call) {
      const id = Symbol('timer');
      timers.set(id, { atMs: nowMs + durationMs + lateMs(), call });
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
    call(
      who: string,
      urgency: 'person' | 'work' = 'work',
      { endsAtMs = Number.POSITIVE_INFINITY, endpoint = 'GET /v1/subscriptions' } = {},
    ): void {
      void limiter
        .turn({ urgency, endsAtMs, endpoint })
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

/** The most that left within so many milliseconds, by looking at each stretch that begins with a call. */
function most(through: readonly { atMs: number }[], withinMs: number): number {
  let [first, worst] = [0, 0];
  through.forEach(({ atMs }, last) => {
    while (atMs - (through[first]?.atMs ?? atMs) >= withinMs) first += 1;
    worst = Math.max(worst, last - first + 1);
  });
  return worst;
}
/**
 * The most that Stripe can see in one second, if each call is on the way for anything up to so long. All that left
 * within that much more than a second can arrive within one: the first ones late, the last ones at once.
 */
const mostAtStripe = (through: readonly { atMs: number }[], onTheWayMs: number): number =>
  most(through, 1_000 + onTheWayMs);

/** Up to 60 ms, in steps that a computer adds without rounding. */
const sixteenths = fc.integer({ min: 0, max: 960 }).map((n) => n / 16);

/** Any crowd, through any clock: who comes when, who waits for it, how late each timer is. */
const crowds = fc.record({
  perSecond: fc.oneof(fc.constantFrom(1, 2, 5, 20, 25, 80, 100), fc.integer({ min: 1, max: 120 })),
  arrivals: fc.array(
    fc.record({
      afterMs: fc.oneof(
        { weight: 6, arbitrary: fc.constant(0) },
        sixteenths,
        fc.integer({ min: 0, max: 3_000 }),
      ),
      count: fc.integer({ min: 1, max: 40 }),
      urgency: fc.constantFrom('person', 'work'),
    }),
    { minLength: 1, maxLength: 40 },
  ),
  late: fc.array(sixteenths, { minLength: 1, maxLength: 12 }),
});

type Crowd = typeof crowds extends fc.Arbitrary<infer T> ? T : never;

/** When each of the crowd came and was let through, once all were. */
async function crowded({ perSecond, arrivals, late }: Crowd) {
  let timers = 0;
  const one = limited(perSecond, () => late[timers++ % late.length] ?? 0);
  let nowMs = 0;
  for (const { afterMs, count, urgency } of arrivals) {
    nowMs += afterMs;
    await one.until(nowMs);
    for (let n = 0; n < count; n += 1) one.call(`${urgency} ${nowMs}`, urgency);
  }
  await one.until(Number.MAX_SAFE_INTEGER);
  expect(one.through).toHaveLength(arrivals.reduce((sum, { count }) => sum + count, 0));
  return one.through.map(({ who, atMs }) => {
    const [urgency, came] = who.split(' ');
    return { urgency, cameMs: Number(came), atMs };
  });
}

it('lets no more through in any second, nor in one at Stripe where calls bunch on the way', async () => {
  await fc.assert(
    fc.asyncProperty(crowds, async (crowd) => {
      const through = await crowded(crowd);
      expect(most(through, 1_000)).toBeLessThanOrEqual(crowd.perSecond);
      expect(mostAtStripe(through, 40)).toBeLessThanOrEqual(crowd.perSecond);
    }),
    { numRuns: 150 },
  );
});

it('lets nobody go before a person who waits, nor before whoever of the same came earlier', async () => {
  await fc.assert(
    fc.asyncProperty(crowds, async (crowd) => {
      const through = await crowded(crowd);
      for (const urgency of ['person', 'work']) {
        const came = through.filter((one) => one.urgency === urgency).map(({ cameMs }) => cameMs);
        expect(came).toEqual(came.toSorted((a, b) => a - b));
      }
      const people = through.filter(({ urgency }) => urgency === 'person');
      for (const { atMs } of through.filter(({ urgency }) => urgency === 'work'))
        expect(people.filter((person) => person.cameMs < atMs && person.atMs > atMs)).toEqual([]);
    }),
    { numRuns: 50 },
  );
});

it('exceeds it by a tenth at most where calls are on the way for up to 100 ms, as the default leaves room for', async () => {
  await fc.assert(
    fc.asyncProperty(crowds, async (crowd) => {
      const tenth = Math.ceil(crowd.perSecond / 10);
      expect(mostAtStripe(await crowded(crowd), 100)).toBeLessThanOrEqual(crowd.perSecond + tenth);
    }),
    { numRuns: 150 },
  );
  expect(80 + 8).toBeLessThanOrEqual(100);
  expect(20 + 2).toBeLessThanOrEqual(25);
});

it.each([1, 2, 5, 20, 80, 100])(
  'uses 95 of 100 of an allowance of %i a second, with late timers too',
  async (perSecond) => {
    const { call, through, until } = limited(perSecond, () => 9);
    for (let n = 0; n < 25 * perSecond; n += 1) call(`call ${n}`);
    await until(20_000);
    expect(through.length).toBeGreaterThanOrEqual(0.95 * 20 * perSecond);
  },
);

it('makes nobody wait who comes after a pause, lets a tenth leave at once, and keeps the order', async () => {
  const { call, through, until } = limited(20);
  for (let n = 0; n < 30; n += 1) call(String(n));
  await until(0);
  expect(through.map(({ who }) => who)).toEqual(['0', '1']);
  await until(999);
  expect(through).toHaveLength(20);
  await until(5_000);
  expect(through.map(({ who }) => who)).toEqual(Array.from({ length: 30 }, (_, n) => String(n)));
  call('after a pause');
  await until(5_000);
  expect(through.at(-1)).toEqual({ who: 'after a pause', atMs: 5_000 });
});

it('lets people go before what nobody waits for', async () => {
  const { call, through, until } = limited(20);
  for (let n = 0; n < 6; n += 1) call(String(n));
  call('person', 'person');
  call('another', 'person');
  await until(5_000);
  expect(through.map(({ who }) => who)).toEqual(['0', '1', 'person', 'another', '2', '3', '4', '5']);
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
  expect(through.map(({ who, atMs }) => `${who} ${atMs}`)).toEqual(['before 0', 'person 3100', 'work 3190']);
});

it('tells whoever would come too late at once, and gives their place to others', async () => {
  const { call, through, refused, until } = limited(1);
  call('first');
  call('impatient', 'work', { endsAtMs: 500 });
  call('patient');
  await until(0);
  expect(refused).toEqual([{ who: 'impatient', atMs: 0 }]);
  await until(1_500);
  expect(through.map(({ who }) => who)).toEqual(['first', 'patient']);
});

it('tells at once whose time is over before Stripe is asked again', async () => {
  const { call, limiter, through, refused, until } = limited(1);
  call('first');
  call('impatient', 'person', { endsAtMs: 2_000 });
  await until(200);
  expect(refused).toEqual([]);
  limiter.hold(3_000);
  await until(200);
  expect(refused).toEqual([{ who: 'impatient', atMs: 200 }]);
  expect(through.map(({ who }) => who)).toEqual(['first']);
});

const MINTING = { endpoint: 'POST /v1/checkout/sessions' };

it('holds one endpoint alone where that is what Stripe has had enough of', async () => {
  const { call, limiter, through, until } = limited(20);
  limiter.hold(1_000, 'GET /v1/subscriptions');
  call('list');
  call('person who lists', 'person');
  call('mint', 'work', MINTING);
  await until(999);
  expect(through).toEqual([{ who: 'mint', atMs: 0 }]);
  await until(2_000);
  expect(through.slice(1).map(({ who, atMs }) => `${who} ${atMs}`)).toEqual([
    'person who lists 1000',
    'list 1090',
  ]);
});

it('lets a quarter of all calls go to such an endpoint, the others to the rest, and forgets it in time', async () => {
  const { call, limiter, through, until } = limited(100);
  limiter.hold(500, 'GET /v1/subscriptions');
  for (let n = 0; n < 400; n += 1) call('list');
  for (let n = 0; n < 1_000; n += 1) call('mint', 'work', MINTING);
  await until(10_500);
  const [lists, mints] = ['list', 'mint'].map((what) => through.filter(({ who }) => who === what));
  expect(most(through, 1_000)).toBe(100);
  expect(most(lists ?? [], 1_000)).toBe(25);
  expect(lists?.length).toBeGreaterThanOrEqual(0.95 * 10 * 25);
  expect(mints?.length).toBeGreaterThanOrEqual(0.95 * 10 * 75);
  // Ten minutes after Stripe has said so for the last time.
  await until(10 * 60_000 + 500);
  through.length = 0;
  for (let n = 0; n < 400; n += 1) call('list');
  await until(11 * 60_000);
  expect(most(through, 1_000)).toBe(100);
});

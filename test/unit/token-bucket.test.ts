import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Bucket, createBuckets, takeToken } from '../../server/http/token-bucket.ts';

const POLICY = { capacity: 3, refillPerSecond: 2 };

it('gives what it holds, then what flows in, and says how long the next one takes', () => {
  let bucket: Bucket | undefined;
  const take = (nowMs: number) => {
    const taken = takeToken(bucket, POLICY, nowMs);
    bucket = taken.bucket;
    const { allowed, remaining, resetSeconds, retryAfterSeconds } = taken;
    return [allowed, remaining, resetSeconds, retryAfterSeconds];
  };
  expect(take(0)).toEqual([true, 2, 1, 0]);
  expect(take(0)).toEqual([true, 1, 1, 0]);
  expect(take(0)).toEqual([true, 0, 2, 1]);
  expect(take(0)).toEqual([false, 0, 2, 1]);
  expect(take(499)).toEqual([false, 0, 2, 1]);
  expect(take(500)).toEqual([true, 0, 2, 1]);
  expect(take(60_000)).toEqual([true, 2, 1, 0]);
});

it('never gives more than it holds and what flowed in, whatever the clock does', () => {
  const steps = fc.array(fc.integer({ min: -5_000, max: 5_000 }), { maxLength: 200 });
  fc.assert(
    fc.property(steps, (deltas) => {
      let bucket: Bucket | undefined;
      let nowMs = 1_000_000;
      let forwardMs = 0;
      let given = 0;
      for (const delta of deltas) {
        nowMs += delta;
        forwardMs += Math.max(0, delta);
        const taken = takeToken(bucket, POLICY, nowMs);
        bucket = taken.bucket;
        if (taken.allowed) given += 1;
        expect(taken.remaining).toBeGreaterThanOrEqual(0);
      }
      expect(given).toBeLessThanOrEqual(POLICY.capacity + (forwardMs / 1000) * POLICY.refillPerSecond);
    }),
  );
});

it('remembers only so many buckets, and forgets the one untouched for longest', () => {
  const buckets = createBuckets(2);
  const slow = { capacity: 3, refillPerSecond: 0.001 };
  const remaining = (name: string, seconds: number) => buckets.take(name, slow, seconds * 1_000).remaining;
  expect([remaining('a', 0), remaining('b', 1), remaining('a', 2), remaining('c', 3)]).toEqual([2, 2, 1, 2]);
  expect(remaining('a', 4)).toBe(0);
  expect(remaining('b', 5)).toBe(2);
});

it('keeps a bucket in its place within a second, and counts all the same', () => {
  const buckets = createBuckets(2);
  const remaining = (name: string, ms: number) => buckets.take(name, POLICY, ms).remaining;
  expect([remaining('a', 0), remaining('b', 0), remaining('a', 1), remaining('a', 2)]).toEqual([2, 2, 1, 0]);
  // Both were touched in this second; the first of them goes.
  expect([remaining('c', 3), remaining('b', 4), remaining('a', 5)]).toEqual([2, 1, 2]);
});

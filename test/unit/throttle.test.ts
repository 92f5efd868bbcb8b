import { expect, it } from 'vitest';
import { createThrottle } from '../../server/stripe/repair/throttle.ts';

/** A clock on which waiting takes exactly as long as it says. */
function timeline() {
  const time = { nowMs: 1_000_000, waits: [] as number[] };
  const throttle = createThrottle(
    () => time.nowMs,
    async (durationMs) => {
      time.waits.push(durationMs);
      time.nowMs += durationMs;
    },
  );
  return { time, throttle };
}

it('lets five accounts a second through, however quick each is', async () => {
  const { time, throttle } = timeline();
  const startedAtMs = time.nowMs;
  for (let account = 0; account < 51; account++) {
    await throttle();
    time.nowMs += 3;
  }
  expect(time.nowMs - startedAtMs).toBe(10_003);
});

it('waits for nothing where an account took longer than its share', async () => {
  const { time, throttle } = timeline();
  await throttle();
  time.nowMs += 60_000;
  await throttle();
  expect(time.waits).toEqual([]);
  await throttle();
  expect(time.waits).toEqual([200]);
});

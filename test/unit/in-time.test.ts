import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { inTime } from '../../server/database/in-time.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const late = () => new Error('too late');

it('answers what the work comes to, and leaves no timer behind', async () => {
  expect(await inTime(Promise.resolve('done'), 1_000, late)).toBe('done');
  await expect(inTime(Promise.reject(new Error('failed')), 1_000, late)).rejects.toThrow('failed');
  expect(vi.getTimerCount()).toBe(0);
});

it('gives up when the time is over, and what becomes of the work then is nobody’s fault', async () => {
  const work = Promise.withResolvers<string>();
  const waiting = expect(inTime(work.promise, 1_000, late)).rejects.toThrow('too late');
  await vi.advanceTimersByTimeAsync(999);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  await waiting;
  vi.useRealTimers();
  // An unhandled rejection would fail the run.
  work.reject(new Error('failed afterwards'));
  await delay(0);
});

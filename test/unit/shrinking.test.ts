import fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { shrinkingFor } from '../support/shrinking.ts';

afterEach(() => vi.restoreAllMocks());

it('a property whose cases take long says what it has found, once it has been made smaller for so long', async () => {
  let nowMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  let tried = 0;
  const property = fc.asyncProperty(
    fc.integer({ min: 0, max: 1_000_000 }),
    shrinkingFor(5_000, async (n) => {
      tried += 1;
      nowMs += 1_000;
      if (n > 10) throw new Error('too large');
    }),
  );
  const { failed, errorInstance, counterexample } = await fc.check(property, { seed: 1 });
  expect(failed).toBe(true);
  expect(errorInstance).toMatchObject({ message: 'too large' });
  expect(counterexample?.[0]).toBeGreaterThan(10);
  // Those up to the first red one, and five seconds more.
  expect(tried).toBeLessThan(12);
});

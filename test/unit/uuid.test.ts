import fc from 'fast-check';
import { expect, test } from 'vitest';
import { uuidv7 } from '../../server/database/uuid.ts';

test('a uuid carries its version, its variant and the millisecond it was made in', () => {
  const millis = fc.integer({ min: 0, max: 2 ** 48 - 1 });
  fc.assert(
    fc.property(millis, fc.uint8Array({ minLength: 10, maxLength: 10 }), (ms, random) => {
      const uuid = uuidv7(new Date(Math.min(ms, 8.64e15)), random);
      expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(Number.parseInt(uuid.replaceAll('-', '').slice(0, 12), 16)).toBe(ms);
    }),
  );
});

test('uuids of later milliseconds sort later, and those of one differ', () => {
  const now = Date.parse('2026-05-01T00:00:00Z');
  const later = Array.from({ length: 100 }, (_, index) => uuidv7(new Date(now + index)));
  expect(later.toSorted()).toEqual(later);
  expect(new Set(Array.from({ length: 1_000 }, () => uuidv7(new Date(now)))).size).toBe(1_000);
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { boundary, periodAt, type Recurrence } from '../billing/periods.ts';
import { iso, seconds } from './support/billing.ts';

const monthly: Recurrence = { interval: 'month', count: 1 };
const yearly: Recurrence = { interval: 'year', count: 1 };
const boundaries = (anchor: string, recurrence: Recurrence, times: number): string[] =>
  Array.from({ length: times }, (_, n) => iso(boundary(seconds(anchor), recurrence, n + 1)).slice(0, 10));

describe('periods', () => {
  it('fall back to the last day of short months and come back to the 31st', () => {
    expect(boundaries('2027-01-31T10:00:00Z', monthly, 4)).toEqual([
      '2027-02-28',
      '2027-03-31',
      '2027-04-30',
      '2027-05-31',
    ]);
  });

  it('use 29 February of a leap year', () => {
    expect(boundaries('2028-01-30T00:00:00Z', monthly, 2)).toEqual(['2028-02-29', '2028-03-30']);
    expect(boundaries('2028-02-29T00:00:00Z', yearly, 4)).toEqual([
      '2029-02-28',
      '2030-02-28',
      '2031-02-28',
      '2032-02-29',
    ]);
  });

  it('hold the moment they are asked for, touch without gaps and keep the time of day', () => {
    const recurrence = fc.record({
      interval: fc.constantFrom('day', 'week', 'month', 'year'),
      count: fc.integer({ min: 1, max: 12 }),
    });
    const moment = fc.integer({ min: seconds('2000-01-01T00:00:00Z'), max: seconds('2060-01-01T00:00:00Z') });
    fc.assert(
      fc.property(moment, moment, recurrence, (anchor, at, every) => {
        const { start, end } = periodAt(anchor, every, at);
        expect(start).toBeLessThanOrEqual(at);
        expect(end).toBeGreaterThan(at);
        expect(periodAt(anchor, every, end).start).toBe(end);
        expect((((start - anchor) % 86_400) + 86_400) % 86_400).toBe(0);
      }),
    );
  });
});

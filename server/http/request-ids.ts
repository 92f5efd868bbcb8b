import { randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/time.ts';

/** Random digits are fetched for so many at once: what they cost is the call. */
const IDS_AT_ONCE = 400;
const DIGITS_PER_ID = 19;
/** The first digit of the fourth group of a uuid says in two of its bits which kind it is. */
const FOURTH = ['8', '9', 'a', 'b'];

/**
 * Makes `req_` and a uuid of version 7: the milliseconds, and 74 random bits; in the order of time. Put together
 * from texts, because every request has one, and writing a uuid byte by byte takes five times as long.
 */
export function requestIds({ now }: Clock): () => string {
  let digits = '';
  let next = 0;
  let lastMs = Number.NaN;
  let time = '';
  return () => {
    if (next + DIGITS_PER_ID > digits.length) {
      digits = randomBytes((IDS_AT_ONCE * DIGITS_PER_ID) / 2).toString('hex');
      next = 0;
    }
    const ms = now().getTime();
    if (ms !== lastMs) {
      const hex = ms.toString(16).padStart(12, '0');
      time = `req_${hex.slice(0, 8)}-${hex.slice(8)}`;
      lastMs = ms;
    }
    const third = digits.slice(next, next + 3);
    const kind = FOURTH[Number.parseInt(digits[next + 3] ?? '', 16) % FOURTH.length];
    const fourth = digits.slice(next + 4, next + 7);
    const fifth = digits.slice(next + 7, next + DIGITS_PER_ID);
    next += DIGITS_PER_ID;
    return `${time}-7${third}-${kind}${fourth}-${fifth}`;
  };
}

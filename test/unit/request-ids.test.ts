import { expect, it } from 'vitest';
import { requestIds } from '../../server/http/request-ids.ts';

const UUID_V7 = /^req_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

it('are uuids of version 7, each another, with the moment first', () => {
  let ms = Date.UTC(2026, 4, 10);
  const next = requestIds({ now: () => new Date(ms) });
  // More than are made at once, some of them within a millisecond.
  const ids = Array.from({ length: 5_000 }, (_, n) => {
    if (n % 3 === 0) ms += 1;
    const id = next();
    expect(Number.parseInt(id.slice(4, 12) + id.slice(13, 17), 16)).toBe(ms);
    return id;
  });
  expect(ids.filter((id) => !UUID_V7.test(id))).toEqual([]);
  expect(new Set(ids.map((id) => id.slice('req_01234567-89ab-'.length))).size).toBe(ids.length);
});

it('draw every digit that is free, and both free bits of the fourth group', () => {
  const next = requestIds({ now: () => new Date(0) });
  const drawn = Array.from({ length: 36 }, () => new Set<string>());
  for (let n = 0; n < 2_000; n += 1)
    for (const [at, digit] of [...next().slice(4)].entries()) drawn[at]?.add(digit);
  const kinds = drawn.map(({ size }) => size);
  const time = [...Array(8).fill(1), 1, ...Array(4).fill(1), 1];
  expect(kinds).toEqual([...time, 1, 16, 16, 16, 1, 4, 16, 16, 16, 1, ...Array(12).fill(16)]);
});

it('go back with a clock that is set back', () => {
  let ms = 1_800_000_000_000;
  const next = requestIds({ now: () => new Date(ms) });
  const later = next();
  ms -= 60_000;
  expect(next() < later).toBe(true);
});

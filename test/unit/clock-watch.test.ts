import { expect, it } from 'vitest';
import { watchClock } from '../../server/stripe/inbox/clock-watch.ts';
import { quietLog } from '../support/stripe.ts';

it('tells the operator once a minute of what is signed and off by more than five minutes, either way', () => {
  const log = quietLog();
  let nowMs = 0;
  const kinds: string[] = [];
  const watch = watchClock({ log, onAlarm: ({ kind }) => kinds.push(kind), nowMs: () => nowMs });
  for (const seconds of [0, 2, 300, -300]) watch(seconds);
  expect(kinds).toEqual([]);
  for (const seconds of [301, 3_600, -301]) watch(seconds);
  nowMs = 59_999;
  watch(3_600);
  expect(kinds).toEqual(['clock_off']);
  nowMs = 60_000;
  watch(-301);
  expect(kinds).toEqual(['clock_off', 'clock_off']);
  expect(log.errors).toMatchObject([
    { details: { ahead_seconds: 301, reason: expect.stringContaining('301 seconds ahead of') } },
    { details: { ahead_seconds: -301, reason: expect.stringContaining('301 seconds behind') } },
  ]);
});

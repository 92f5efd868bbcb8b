import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Tier } from '../../shared/catalog.ts';
import { type Command, deliverAll } from './commands.ts';
import { refundsOf } from './customer.ts';
import { type Lane, openLane } from './lane.ts';
import { isLive } from './oracle.ts';
import { judge } from './properties.ts';
import { play } from './story.ts';

let lane: Lane;
beforeAll(async () => {
  lane = await openLane();
});
afterAll(() => lane.close());

const DAY = 24;
/** In the lane's year each renewal lies within 32 days of the one before. */
const months = (count: number, heard: boolean): Command[] =>
  Array.from({ length: count }, () => [
    { do: 'wait', hours: 31 * DAY } satisfies Command,
    ...(heard ? [deliverAll, deliverAll] : []),
  ]).flat();
const plan = (tier: Tier, period: 'monthly' | 'annual' = 'monthly') => ({ tier, period });
const bought = (tier: Tier, period?: 'monthly' | 'annual'): Command[] => [
  { do: 'open_page', kind: 'subscription', process: 0, ...plan(tier, period) },
  { do: 'pay_page', page: 0, card: 'visa' },
  deliverAll,
];
const byStaff = (tier: Tier, period?: 'monthly' | 'annual'): Command[] => [
  { do: 'subscribe_in_dashboard', ...plan(tier, period) },
];

type Outcome = {
  story: Command[];
  /** Which of them live on, by the order in which they were made. */
  living: number[];
  /** What we gave back by ourselves: cents, at least and at most, in all. */
  back: [number, number];
};

/** What two subscriptions at once come to. The prices are those of the catalogue: 29, 99, 399 dollars a month. */
const OUTCOMES: Record<string, Outcome> = {
  'a year paid, then staff adds one of the same tier: the older stays, the new one is given back': {
    story: [...bought('api_builder'), ...months(12, true), ...byStaff('api_builder'), deliverAll],
    living: [0],
    back: [9_900, 9_900],
  },
  'a year paid, then a higher tier: only what is left of the present month of the lower one': {
    story: [
      ...bought('api_builder'),
      ...months(11, true),
      { do: 'wait', hours: 10 * DAY },
      ...byStaff('api_scale'),
      deliverAll,
    ],
    living: [1],
    // Between the 11th and the 20th day of a month.
    back: [3_000, 9_000],
  },
  'both lived for three months before we heard: nothing by itself': {
    story: [
      ...bought('api_builder'),
      { do: 'wait', hours: 1 },
      ...byStaff('api_builder'),
      ...months(3, false),
      ...Array.from({ length: 6 }, () => deliverAll),
    ],
    living: [0],
    back: [0, 0],
  },
  'a lower tier bought on an old page beside a higher one: all of it': {
    story: [
      ...bought('api_scale'),
      { do: 'find_old_page', kind: 'subscription', ...plan('api_starter') },
      { do: 'pay_page', page: 0, card: 'visa' },
      deliverAll,
    ],
    living: [0],
    back: [2_900, 2_900],
  },
  'an annual one beside a monthly one of the same tier: the older stays': {
    story: [...bought('api_starter'), ...months(1, true), ...byStaff('api_starter', 'annual'), deliverAll],
    living: [0],
    back: [29_000, 29_000],
  },
  'a monthly one of a higher tier beside an annual one, half a year in: the half that is left of it': {
    story: [...bought('api_starter', 'annual'), ...months(6, true), ...byStaff('api_scale'), deliverAll],
    living: [1],
    back: [13_500, 14_800],
  },
  'a dearer plan of a lower tier, changed to an hour before the higher one came: all but that hour': {
    story: [
      ...bought('api_scale'),
      { do: 'change_plan', ...plan('solo_manual', 'annual') },
      { do: 'wait', hours: 1 },
      ...byStaff('api_scale'),
      deliverAll,
    ],
    living: [1],
    back: [78_987, 78_992],
  },
  'three at once, made a day apart: only the best is paid for at any time': {
    story: [
      ...bought('api_starter'),
      { do: 'wait', hours: DAY },
      ...byStaff('api_builder'),
      { do: 'wait', hours: DAY },
      ...byStaff('api_scale'),
      deliverAll,
      deliverAll,
    ],
    living: [2],
    // 30 of 31 days of the first, 30 of 31 of the second.
    back: [2_806 + 9_580 - 2, 2_807 + 9_581],
  },
  'a schedule is to end the first: both stay': {
    story: [...bought('api_builder'), { do: 'end_by_schedule' }, ...byStaff('api_scale'), deliverAll],
    living: [0, 1],
    back: [0, 0],
  },
  'the first is to end by itself: both stay': {
    story: [...bought('api_builder'), { do: 'cancel' }, ...byStaff('api_scale'), deliverAll],
    living: [0, 1],
    back: [0, 0],
  },
  'the second is to end by itself: both stay': {
    story: [
      ...bought('api_scale'),
      ...byStaff('api_builder'),
      { do: 'set_aside', which: 1, how: 'end_later' },
      deliverAll,
    ],
    living: [0, 1],
    back: [0, 0],
  },
  'the first is paused: both stay': {
    story: [
      ...bought('api_scale'),
      { do: 'set_aside', which: 0, how: 'pause' },
      ...byStaff('api_builder'),
      deliverAll,
    ],
    living: [0, 1],
    back: [0, 0],
  },
  'the first was paused and goes on again: then the second is ended': {
    story: [
      ...bought('api_scale'),
      { do: 'set_aside', which: 0, how: 'pause' },
      ...byStaff('api_builder'),
      deliverAll,
      { do: 'set_aside', which: 0, how: 'go_on' },
      deliverAll,
    ],
    living: [0],
    back: [9_900, 9_900],
  },
  'of the second one half was given back by staff: the other half': {
    story: [
      ...bought('api_builder'),
      { do: 'wait', hours: 1 },
      ...byStaff('api_builder'),
      { do: 'refund', charge: 1, part: 2 },
      deliverAll,
    ],
    living: [0],
    back: [4_950, 4_950],
  },
};

it.each(Object.entries(OUTCOMES))('%s', { timeout: 60_000 }, async (_, { story, living, back }) => {
  const ending = await play(lane, story);
  await judge(ending);
  const { world } = lane.localStripe;
  const customer = ending.customer ?? '';
  const all = world.ofCustomer('subscription', customer);
  expect(all.flatMap(({ status }, index) => (isLive(status) ? [index] : []))).toEqual(living);
  const cents = refundsOf(world, customer)
    .filter(({ reason }) => reason === 'duplicate')
    .reduce((sum, { amount }) => sum + amount, 0);
  expect(cents).toBeGreaterThanOrEqual(back[0]);
  expect(cents).toBeLessThanOrEqual(back[1]);
});

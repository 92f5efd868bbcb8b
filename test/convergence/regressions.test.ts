import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Command, deliverAll } from './commands.ts';
import { refundsOf } from './customer.ts';
import { type Lane, openLane } from './lane.ts';
import { judge } from './properties.ts';
import { type Ending, play } from './story.ts';

let lane: Lane;
beforeAll(async () => {
  lane = await openLane();
});
afterAll(() => lane.close());

const monthly = (tier: 'api_starter' | 'api_builder' | 'agency_manual') =>
  ({ tier, period: 'monthly' }) as const;
/** Stories that once ended wrongly, or that come close to what did. */
const STORIES: Readonly<Record<string, readonly Command[]>> = {
  'a booked downgrade that is changed before its time': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('agency_manual') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', ...monthly('api_builder') },
    deliverAll,
    { do: 'change_plan', ...monthly('api_starter') },
  ],
  'a booked downgrade that comes while another subscription is the better one': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', ...monthly('agency_manual') },
    deliverAll,
    { do: 'change_plan', ...monthly('api_builder') },
    { do: 'subscribe_in_dashboard', ...monthly('agency_manual') },
    { do: 'wait', hours: 24 * 32 },
    { do: 'change_plan', ...monthly('api_starter') },
  ],
  'one after the other within one second, for other periods': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', tier: 'agency_manual', period: 'annual' },
    deliverAll,
    { do: 'end_subscription' },
    deliverAll,
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    deliverAll,
    { do: 'end_subscription' },
    deliverAll,
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
  ],
  'a renewal that is announced and then cancelled': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'wait', hours: 24 * 25 },
    { do: 'cancel' },
  ],
  'an end that staff sets, moves and takes back, each heard of late': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_builder') },
    { do: 'pay_page', page: 0, card: 'visa' },
    deliverAll,
    { do: 'set_end', hours: 24 * 10 },
    { do: 'wait', hours: 24 },
    deliverAll,
    { do: 'set_end', hours: 24 * 12 },
    { do: 'wait', hours: 24 },
    deliverAll,
    { do: 'keep' },
    { do: 'set_end', hours: 24 * 3 },
    { do: 'wait', hours: 24 * 8 },
  ],
  'an end that staff sets beyond the period': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_builder') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'set_end', hours: 24 * 100 },
    deliverAll,
    { do: 'wait', hours: 24 * 32 },
    deliverAll,
    { do: 'wait', hours: 24 * 80 },
  ],
  'a schedule that ends its subscription': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_builder') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'end_by_schedule' },
    deliverAll,
    { do: 'wait', hours: 24 * 32 },
  ],
  'a period switch booked in the portal, replaced and come true': [
    { do: 'open_page', kind: 'subscription', process: 0, tier: 'api_builder', period: 'annual' },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', ...monthly('api_builder') },
    deliverAll,
    { do: 'change_plan', tier: 'api_builder', period: 'annual' },
    deliverAll,
    { do: 'change_plan', ...monthly('api_starter') },
    deliverAll,
    { do: 'change_plan', ...monthly('api_builder') },
    deliverAll,
    { do: 'wait', hours: 24 * 370 },
  ],
  'a subscription that ends and another that begins before we hear of either': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_builder') },
    { do: 'pay_page', page: 0, card: 'visa' },
    deliverAll,
    { do: 'set_end', hours: 24 },
    deliverAll,
    { do: 'wait', hours: 48 },
    { do: 'subscribe_in_dashboard', ...monthly('api_builder') },
  ],
  'of two that live, the better one ends and a third begins before we hear of either': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'wait', hours: 1 },
    { do: 'find_old_page', kind: 'subscription', ...monthly('api_builder') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'set_end', hours: 1 },
    deliverAll,
    deliverAll,
    { do: 'wait', hours: 24 * 15 },
    { do: 'subscribe_in_dashboard', ...monthly('agency_manual') },
  ],
  'a subscription ends beside another whose first payment never came': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'set_end', hours: 10 },
    deliverAll,
    { do: 'decline_next', times: 1 },
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    { do: 'wait', hours: 12 },
  ],
  'of two subscriptions, the one we kept ends in the second in which both were made': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    { do: 'set_aside', which: 0, how: 'end_later' },
    { do: 'come_back', page: 0, process: 0 },
    { do: 'end_subscription' },
    { ...deliverAll, picks: [2] },
  ],
  'a second subscription beside one that a schedule is to end': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'end_by_schedule' },
    { do: 'find_old_page', kind: 'subscription', ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
  ],
  'a dearer plan paid for with the credit of the one before, and a second that lives beside it': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('agency_manual') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', tier: 'solo_manual', period: 'annual' },
    deliverAll,
    { do: 'change_plan', ...monthly('api_starter') },
    deliverAll,
    { do: 'wait', hours: 24 * 15 },
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    { do: 'wait', hours: 1 },
    deliverAll,
    { do: 'find_old_page', kind: 'subscription', ...monthly('agency_manual') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'cancel' },
    deliverAll,
    { do: 'keep' },
  ],
  'two trial packs paid for an hour apart, of which we hear of the second first': [
    { do: 'open_page', kind: 'trial_pack', process: 0, ...monthly('api_starter') },
    { do: 'find_old_page', kind: 'trial_pack', ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'wait', hours: 1 },
    { do: 'pay_page', page: 1, card: 'visa' },
    { ...deliverAll, picks: [1] },
  ],
  'a second trial pack whose payment the bank takes back': [
    { do: 'open_page', kind: 'trial_pack', process: 0, ...monthly('api_starter') },
    { do: 'find_old_page', kind: 'trial_pack', ...monthly('api_starter') },
    { do: 'pay_page', page: 1, card: 'visa' },
    deliverAll,
    { do: 'pay_page', page: 0, card: 'createDispute' },
  ],
  'a second trial pack on an old page, of which no event ever arrives': [
    { do: 'open_page', kind: 'trial_pack', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'find_old_page', kind: 'trial_pack', ...monthly('api_starter') },
    { do: 'pay_page', page: 1, card: 'visa' },
    { do: 'drop', pick: 0 },
    { do: 'drop', pick: 0 },
    { do: 'drop', pick: 0 },
  ],
  'a second subscription whose payment the bank takes back': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('agency_manual') },
    { do: 'find_old_page', kind: 'subscription', ...monthly('api_starter') },
    { do: 'pay_page', page: 1, card: 'visa' },
    deliverAll,
    { do: 'pay_page', page: 0, card: 'createDispute' },
  ],
  'a second subscription of which staff gave half back, by a refund that the bank sends back later': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    { do: 'refund', charge: 0, part: 2 },
    deliverAll,
    { do: 'fail_refund', refund: 1 },
  ],
  'a second subscription that is ended in the second in which its renewal is paid after all': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'change_plan', tier: 'api_starter', period: 'annual' },
    { do: 'subscribe_in_dashboard', ...monthly('api_starter') },
    { do: 'decline_next', times: 2 },
    { do: 'wait', hours: 24 * 32 },
    { do: 'wait', hours: 24 * 4 },
    deliverAll,
    { do: 'pay_invoice', card: 'visa' },
  ],
  'a first payment that never comes, of a subscription whose plan was to change': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
    { do: 'pay_page', page: 0, card: 'visa' },
    { do: 'decline_next', times: 1 },
    { do: 'subscribe_in_dashboard', ...monthly('agency_manual') },
    { do: 'change_plan', ...monthly('api_starter') },
    deliverAll,
    { do: 'change_plan', ...monthly('api_starter') },
    { do: 'wait', hours: 768 },
  ],
  'a second subscription of which we hear first, and of its taken back payment later': [
    { do: 'open_page', kind: 'subscription', process: 0, ...monthly('agency_manual') },
    { do: 'find_old_page', kind: 'subscription', ...monthly('api_starter') },
    { do: 'pay_page', page: 1, card: 'visa' },
    deliverAll,
    { do: 'pay_page', page: 0, card: 'createDispute' },
    { ...deliverAll, picks: [0] },
    deliverAll,
  ],
};

it.each(Object.entries(STORIES))('%s ends in the state of Stripe', async (_, story) => {
  await judge(await play(lane, story));
});

/** More points than any of these stories has. */
const MOST_POINTS = 150;

/** Plays a story once for each point at which its process can die, and answers how many these are. */
async function dyingEverywhere(
  story: (points: number) => readonly Command[],
  judged: (ending: Ending) => Promise<void>,
): Promise<number> {
  for (let points = 1; points <= MOST_POINTS; points++) {
    const ending = await play(lane, story(points));
    await judged(ending);
    if (ending.deaths === 0) return points - 1;
  }
  throw new Error(`more than ${MOST_POINTS} points`);
}

it.each(['subscription', 'trial_pack'] as const)(
  'a second %s is given back once, whichever moment the process dies at',
  async (kind) => {
    const deaths = await dyingEverywhere(
      (points) => [
        { do: 'open_page', kind, process: 0, ...monthly('agency_manual') },
        { do: 'find_old_page', kind, ...monthly('api_starter') },
        { do: 'pay_page', page: 1, card: 'visa' },
        deliverAll,
        { do: 'pay_page', page: 0, card: 'visa' },
        { do: 'doom', process: 0, points },
        deliverAll,
      ],
      async (ending) => {
        await judge(ending);
        const { world } = lane.localStripe;
        expect(refundsOf(world, ending.customer ?? '').map(({ reason }) => reason)).toEqual(['duplicate']);
      },
    );
    expect(deaths).toBeGreaterThan(20);
  },
  300_000,
);

it('a second trial pack is given back once, also when the bank sends a part of it back days later', async () => {
  const ending = await play(
    lane,
    [
      { do: 'open_page', kind: 'trial_pack', process: 0, ...monthly('api_starter') },
      { do: 'pay_page', page: 0, card: 'visa' },
      { do: 'find_old_page', kind: 'trial_pack', ...monthly('api_starter') },
      { do: 'pay_page', page: 0, card: 'visa' },
      { do: 'refund', charge: 0, part: 2 },
      deliverAll,
      { do: 'refund', charge: 0, part: 1 },
      // Long after Stripe has forgotten the idempotency key.
      { do: 'wait', hours: 192 },
      { do: 'fail_refund', refund: 3 },
      deliverAll,
    ],
    'catch_up',
  );
  await judge(ending);
  expect(refundsOf(lane.localStripe.world, ending.customer ?? '').map(({ status }) => status)).toContain(
    'failed',
  );
});

it('an event that was stored by a process that died before it said so is not lost when Stripe gives it up', async () => {
  const deliver: Command = { ...deliverAll, picks: [0, 0, 0], work: false };
  const ending = await play(
    lane,
    [
      { do: 'open_page', kind: 'subscription', process: 0, ...monthly('api_starter') },
      { do: 'pay_page', page: 0, card: 'visa' },
      { do: 'doom', process: 0, points: 2 },
      deliver,
      { do: 'drop', pick: 0 },
      { ...deliver, picks: [0] },
    ],
    'reconcile',
  );
  await judge(ending);
  expect(ending.deaths).toBe(1);
  expect(ending.found).toBe(1);
});

it('an account has one customer, whichever moment its first call dies at and however late the next one comes', async () => {
  const page: Command = { do: 'open_page', kind: 'subscription', process: 1, ...monthly('api_starter') };
  const deaths = await dyingEverywhere(
    (points) => [
      { do: 'doom', process: 1, points },
      page,
      // Long after Stripe has forgotten the idempotency key.
      { do: 'wait', hours: 192 },
      page,
      { do: 'pay_page', page: 0, card: 'visa' },
      deliverAll,
    ],
    judge,
  );
  expect(deaths).toBeGreaterThan(20);
}, 120_000);

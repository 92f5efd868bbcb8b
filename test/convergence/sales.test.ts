import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyChain } from '../../server/audit/verify.ts';
import { Account } from '../../server/database/entities/account.ts';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, StripeEvent } from '../../server/database/entities/journal.ts';
import { type Command, deliverAll, former, jointSales, recovery, sales } from './commands.ts';
import { paidCharges, refundsOf } from './customer.ts';
import { countEnding } from './endings.ts';
import { type Lane, openLane } from './lane.ts';
import { expectedPack, packsPaid } from './oracle.ts';
import { judge } from './properties.ts';
import { type Ending, play } from './story.ts';

/** The trial pack by whichever way it is sold. A tenth of the cases of all stories, unless told. */
const CASES = Math.ceil(Number(process.env['CASES'] ?? 1_000) / 10);
const SEED = Number(process.env['SEED'] ?? Date.now() % 2_147_483_647);

let lane: Lane;
beforeAll(async () => {
  lane = await openLane();
});
afterAll(() => lane.close());

/** Plays so many drawn stories, and names the seed of a red one. */
async function draw(stories: fc.Arbitrary<Command[]>, judged: (ending: Ending) => Promise<void>) {
  const property = fc.asyncProperty(stories, recovery, async (commands, by) => {
    await judged(await play(lane, commands, by));
  });
  await fc.assert(property, { numRuns: CASES, seed: SEED, endOnFailure: true });
}

const TIME = { timeout: 60_000 + CASES * 2_000 };

describe('the trial pack, sold by us, by a link and by staff', () => {
  it(`is granted once, and each other sale is given back, over ${CASES} cases`, TIME, async () => {
    await draw(sales, judge);
  });

  it('by a link and then by an invoice is the first one; the second is given back', async () => {
    const ending = await play(lane, [
      { do: 'open_page', kind: 'subscription', process: 0, tier: 'api_builder', period: 'monthly' },
      { do: 'open_link' },
      { do: 'pay_page', page: 0, card: 'visa' },
      deliverAll,
      { do: 'invoice_pack', card: 'visa' },
    ]);
    await judge(ending);
    const { world } = lane.localStripe;
    const sold = packsPaid(world, ending.customer ?? '');
    expect(sold.map(({ charge }) => [charge.amount, charge.amount_refunded])).toEqual([
      [299, 0],
      [299, 299],
    ]);
    expect(refundsOf(world, ending.customer ?? '')).toHaveLength(1);
  });

  it('is not what a payment without session and invoice says it is', async () => {
    const ending = await play(lane, [
      { do: 'open_page', kind: 'trial_pack', process: 0, tier: 'api_starter', period: 'monthly' },
      { do: 'take_money', cents: 299, card: 'visa' },
      { do: 'take_money', cents: 5_000, card: 'visa' },
      { do: 'refund', charge: 1, part: 1 },
    ]);
    await judge(ending);
    expect(packsPaid(lane.localStripe.world, ending.customer ?? '')).toEqual([]);
  });
});

describe('the trial pack and a subscription on one invoice', () => {
  it(`are each given back where they are second, over ${CASES} cases`, TIME, async () => {
    await draw(jointSales, judge);
  });

  const builder = { tier: 'api_builder', period: 'monthly' } as const;
  const link: Command[] = [
    { do: 'open_joint_link', ...builder },
    { do: 'pay_page', page: 0, card: 'visa' },
  ];
  const byStaff: Command[] = [{ do: 'subscribe_with_pack', ...builder }];
  const opened: Command = { do: 'open_page', kind: 'trial_pack', process: 0, ...builder };
  const packFirst: Command[] = [opened, { do: 'pay_page', page: 0, card: 'visa' }, deliverAll];
  const later: Command = { do: 'wait', hours: 1 };
  const planFirst: Command[] = [opened, { do: 'subscribe_in_dashboard', ...builder }, deliverAll, later];
  const third: Command = { do: 'refund', charge: 1, part: 3 };

  /** What each charge was for, in cents, and what is given back of it in all: the plan costs 9,900, the pack 299. */
  it.each<[string, Command[], [number, number][]]>([
    ['first, by a link: nothing is given back', [opened, ...link], [[10_199, 0]]],
    ['first, by staff: nothing is given back', [opened, ...byStaff], [[10_199, 0]]],
    [
      'the pack second: only the pack',
      [...packFirst, ...link],
      [
        [299, 0],
        [10_199, 299],
      ],
    ],
    [
      'the subscription second: only the subscription',
      [...planFirst, ...byStaff],
      [
        [9_900, 0],
        [10_199, 9_900],
      ],
    ],
    [
      'both second: both',
      [opened, ...link, deliverAll, later, ...byStaff],
      [
        [10_199, 0],
        [10_199, 10_199],
      ],
    ],
    [
      'the pack second, and a third of the charge given back by staff: that covers the pack',
      [...packFirst, ...byStaff, third],
      [
        [299, 0],
        [10_199, 3_400],
      ],
    ],
    [
      'the pack second, then a third of what is left by staff, then the subscription second: each cent once',
      [
        ...packFirst,
        ...link,
        deliverAll,
        deliverAll,
        third,
        { do: 'subscribe_in_dashboard', tier: 'api_scale', period: 'monthly' },
      ],
      [
        [299, 0],
        [10_199, 10_199],
        [39_900, 0],
      ],
    ],
    [
      'the pack second, and a process dies with its refund; then the subscription is second as well: both',
      [
        ...packFirst,
        ...link,
        { do: 'doom_by_refund', process: 0, count: 1 },
        deliverAll,
        { do: 'subscribe_in_dashboard', tier: 'api_scale', period: 'monthly' },
        { do: 'work', process: 1, background: false },
      ],
      [
        [299, 0],
        [10_199, 10_199],
        [39_900, 0],
      ],
    ],
  ])('%s', async (_, commands, expected) => {
    const ending = await play(lane, commands);
    await judge(ending);
    const charges = paidCharges(lane.localStripe.world, ending.customer ?? '');
    expect(charges.map(({ amount, amount_refunded: back }) => [amount, back])).toEqual(expected);
  });
});

describe('a customer who is deleted, and whose money moves after that', () => {
  it(`keeps what Stripe holds about it, over ${CASES} cases`, TIME, async () => {
    await draw(former, judgeFormer);
  });
});

async function judgeFormer(ending: Ending): Promise<void> {
  const { accountId, customer } = ending;
  const [process] = lane.processes;
  if (!process || customer === null) throw new Error('an account with a customer');
  const { world } = lane.localStripe;
  const em = process.db.orm.em.fork();
  expect(await verifyChain(process.db, accountId), 'the audit chain is whole').toBeNull();
  expect((await em.findOneOrFail(Account, accountId)).stripeCustomerId, 'let go of').toBeNull();
  const row = await em.findOne(Subscription, { accountId });
  expect(row?.entitled ?? false, 'nothing is granted').toBe(false);
  const unfinished = await em.find(StripeEvent, { accountId, state: { $ne: 'done' } }, { exclude: ['raw'] });
  expect(
    unfinished.map(({ type, error }) => [type, error]),
    'every event was carried out',
  ).toEqual([]);
  const pack = await em.findOne(TrialPack, { accountId });
  const paid = packsPaid(world, customer);
  const sale = paid.find(({ id }) => id === pack?.stripeSessionId);
  expect(pack !== null, 'a pack is granted if and only if one was paid').toBe(paid.length > 0);
  const log = await em.find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
  countEnding(ending, { log, mails: [], pack });
  if (!pack) return;
  if (!sale) throw new Error(`${pack.stripeSessionId} was not paid for`);
  const { state, remainingSeconds } = pack;
  expect({ state, remainingSeconds }).toEqual(expectedPack(world, sale, lane.time.ms));
  const sentBack = new Set<unknown>(
    refundsOf(world, customer).flatMap(({ charge, status }) => (status === 'failed' ? [charge] : [])),
  );
  for (const { id, charge } of paid)
    if (id !== sale.id && !charge.disputed && !sentBack.has(charge.id))
      expect(charge.amount_refunded, 'a second pack is given back').toBe(charge.amount);
  const extra = await em.count(AuditEntry, { accountId, action: 'trial_pack.duplicate_refunded' });
  expect(extra).toBe(paid.length - 1);
}

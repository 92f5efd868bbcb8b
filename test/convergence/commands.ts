import fc from 'fast-check';
import { BILLING_PERIODS, type BillingPeriod, TIERS, type Tier } from '../../shared/catalog.ts';

import { type AddressCommand, addressArcs } from './addresses.ts';
import { rareArcs } from './rare.ts';
import type { Recovery } from './story.ts';

type Plan = { tier: Tier; period: BillingPeriod };
export type Kind = 'subscription' | 'trial_pack';
export type Card =
  | 'visa'
  | 'chargeDeclined'
  | 'chargeCustomerFail'
  | 'authenticationRequired'
  | 'createDispute';

/**
 * One thing that happens. Numbers that choose among several count round; where there is nothing to choose, or
 * Stripe refuses, nothing happens.
 */
export type Command =
  | AddressCommand
  // What customers do.
  | ({ do: 'open_page'; kind: Kind; process: number } & Plan)
  /** A page that we know nothing of any more is still open: it stands for every old open page. */
  | ({ do: 'find_old_page'; kind: Kind } & Plan)
  | { do: 'pay_page'; page: number; card: Card }
  | { do: 'come_back'; page: number; process: number }
  | ({ do: 'change_plan' } & Plan)
  | { do: 'cancel' }
  | { do: 'keep' }
  | { do: 'give_card'; card: Card }
  | { do: 'pay_invoice'; card: Card }
  /** Passes or fails the step that a bank asked for. */
  | { do: 'authenticate'; payment: number; outcome: 'succeed' | 'fail' }
  | { do: 'dispute'; charge: number }
  // What the bank, time and we in the Dashboard do.
  | { do: 'decline_next'; times: number }
  | { do: 'close_dispute'; dispute: number; outcome: 'won' | 'lost' }
  | { do: 'refund'; charge: number; part: number }
  | { do: 'fail_refund'; refund: number }
  | { do: 'end_subscription' }
  /** Staff sets the hour of the end, wherever in the period or beyond it. */
  | { do: 'set_end'; hours: number }
  /** Staff has a schedule end the subscription with its last phase. */
  | { do: 'end_by_schedule' }
  /** Beside what there is, without a word of ours on it. */
  | ({ do: 'subscribe_in_dashboard' } & Plan)
  /** The same with the trial pack added to its first invoice: one charge for both. */
  | ({ do: 'subscribe_with_pack' } & Plan)
  /** A payment link of staff for a plan and the pack together; its page is paid as any. */
  | ({ do: 'open_joint_link' } & Plan)
  /** One of those that live is to end by itself, or goes on without being collected; or all that is taken back. */
  | { do: 'set_aside'; which: number; how: 'end_later' | 'pause' | 'go_on' }
  /** The pack's price on a payment link of staff, with nothing of ours written on it; its page is paid as any. */
  | { do: 'open_link' }
  /** The pack's price on an invoice of staff, which is charged at once. */
  | { do: 'invoice_pack'; card: Card }
  /** Staff takes money, and nothing says what for. */
  | { do: 'take_money'; cents: number; card: Card }
  /** Staff deletes the customer; nothing is bought after that. */
  | { do: 'delete_customer' }
  | { do: 'wait'; hours: number }
  // How Stripe's events arrive.
  | {
      do: 'deliver';
      picks: number[];
      to: number;
      twice: boolean;
      together: boolean;
      work: boolean;
      background: boolean;
    }
  | { do: 'drop'; pick: number }
  /** The queue hands out what is waiting. */
  | { do: 'work'; process: number; background: boolean }
  // What goes wrong with us.
  | { do: 'slow'; process: number; holds: number[] }
  | { do: 'doom'; process: number; points: number }
  /** Dies over its next refund or the one after, which Stripe has carried out. */
  | { do: 'doom_by_refund'; process: number; count: number }
  /** Whoever looks at the account gives no sign of life for longer than its lease lasts. */
  | { do: 'stall' };

const plan = { tier: fc.constantFrom(...TIERS), period: fc.constantFrom(...BILLING_PERIODS) };
const kind = fc.constantFrom<Kind>('subscription', 'trial_pack');
const card = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Card>('visa') },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Card>(
      'chargeDeclined',
      'chargeCustomerFail',
      'authenticationRequired',
      'createDispute',
    ),
  },
);
const which = fc.nat({ max: 7 });
const process = fc.nat({ max: 1 });
/** Eight events that arrive are sixteen points alone, and what comes of them another twenty. */
const points = fc.oneof(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 15, max: 40 }));

type Rest<T> = {
  [K in Exclude<keyof Extract<Command, { do: T }>, 'do'>]: fc.Arbitrary<Extract<Command, { do: T }>[K]>;
};

const of = <T extends Command['do']>(name: T, rest: Rest<T>): fc.Arbitrary<Command> =>
  // Name and rest are of one member of the union, which a record built from both is not seen to be.
  fc.record({ do: fc.constant(name), ...rest }) as unknown as fc.Arbitrary<Command>;

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: of('open_page', { kind, process, ...plan }) },
  { weight: 2, arbitrary: of('find_old_page', { kind, ...plan }) },
  { weight: 7, arbitrary: of('pay_page', { page: which, card }) },
  { weight: 2, arbitrary: of('come_back', { page: which, process }) },
  { weight: 5, arbitrary: of('change_plan', plan) },
  { weight: 2, arbitrary: of('cancel', {}) },
  { weight: 2, arbitrary: of('keep', {}) },
  { weight: 2, arbitrary: of('give_card', { card }) },
  { weight: 3, arbitrary: of('pay_invoice', { card }) },
  {
    weight: 2,
    arbitrary: of('authenticate', { payment: which, outcome: fc.constantFrom('succeed', 'fail') }),
  },
  { weight: 1, arbitrary: of('dispute', { charge: which }) },
  { weight: 2, arbitrary: of('decline_next', { times: fc.integer({ min: 1, max: 5 }) }) },
  {
    weight: 2,
    arbitrary: of('close_dispute', { dispute: which, outcome: fc.constantFrom('won', 'lost') }),
  },
  { weight: 2, arbitrary: of('refund', { charge: which, part: fc.constantFrom(1, 2, 3) }) },
  { weight: 1, arbitrary: of('fail_refund', { refund: which }) },
  { weight: 1, arbitrary: of('end_subscription', {}) },
  { weight: 2, arbitrary: of('set_end', { hours: fc.constantFrom(1, 24 * 10, 24 * 12, 24 * 100) }) },
  { weight: 1, arbitrary: of('end_by_schedule', {}) },
  { weight: 2, arbitrary: of('subscribe_in_dashboard', plan) },
  {
    weight: 2,
    arbitrary: of('set_aside', { which, how: fc.constantFrom('end_later', 'pause', 'go_on') }),
  },
  { weight: 1, arbitrary: of('open_link', {}) },
  { weight: 1, arbitrary: of('invoice_pack', { card }) },
  { weight: 1, arbitrary: of('take_money', { cents: fc.constantFrom(299, 5_000), card }) },
  { weight: 5, arbitrary: of('wait', { hours: fc.constantFrom(1, 24, 24 * 8, 24 * 15, 24 * 32) }) },
  {
    weight: 16,
    arbitrary: of('deliver', {
      picks: fc.array(which, { minLength: 1, maxLength: 5 }),
      to: fc.constantFrom(0, 1, 2),
      twice: fc.boolean(),
      together: fc.boolean(),
      work: fc.boolean(),
      background: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: of('drop', { pick: which }) },
  { weight: 5, arbitrary: of('work', { process, background: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: of('slow', { process, holds: fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 5 }) }),
  },
  { weight: 1, arbitrary: of('stall', {}) },
  { weight: 5, arbitrary: of('doom', { process, points }) },
);

/** Everything under way arrives, and is worked on. */
export const deliverAll: Extract<Command, { do: 'deliver' }> = {
  do: 'deliver',
  picks: [0, 0, 0, 0, 0, 0, 0, 0],
  to: 0,
  twice: false,
  together: false,
  work: true,
  background: false,
};

/** What takes several steps, and so would hardly ever be drawn one by one. */
const arc: fc.Arbitrary<Command[]> = fc.oneof(
  // A page that was open all the time is paid for as well.
  fc.tuple(kind, fc.record(plan), card).map(([kind, chosen, card]): Command[] => [
    { do: 'find_old_page', kind, ...chosen },
    { do: 'pay_page', page: 0, card },
  ]),
  fc
    .tuple(kind, fc.record(plan))
    .map(([kind, chosen]): Command[] => [
      { do: 'open_page', kind, process: 1, ...chosen },
      { do: 'pay_page', page: 0, card: 'visa' },
      deliverAll,
    ]),
  // The pack is sold by staff, once or twice, by link or by invoice.
  fc
    .array(
      fc.constantFrom<Command[]>(
        [{ do: 'open_link' }, { do: 'pay_page', page: 0, card: 'visa' }],
        [{ do: 'invoice_pack', card: 'visa' }],
      ),
      { minLength: 1, maxLength: 2 },
    )
    .map((sales): Command[] => [...sales.flat(), deliverAll]),
  // Two live side by side for minutes or for months, of which we hear only then.
  fc
    .tuple(
      fc.record(plan),
      fc.array(fc.constantFrom(1, 24 * 8, 24 * 32), { minLength: 1, maxLength: 4 }),
      fc.constantFrom<Command[]>(
        [],
        [{ do: 'set_aside', which: 0, how: 'end_later' }],
        [{ do: 'set_aside', which: 1, how: 'pause' }],
      ),
    )
    .map(([chosen, hours, before]): Command[] => [
      deliverAll,
      { do: 'wait', hours: 24 * 15 },
      ...before,
      { do: 'subscribe_in_dashboard', ...chosen },
      ...hours.map((one): Command => ({ do: 'wait', hours: one })),
      deliverAll,
    ]),
  // A renewal cannot be charged; sometimes the customer repairs it, in time or not.
  fc
    .tuple(fc.integer({ min: 1, max: 5 }), fc.constantFrom(1, 24 * 4, 24 * 20), fc.boolean())
    .map(([times, hours, repairs]): Command[] => [
      { do: 'decline_next', times },
      { do: 'wait', hours: 24 * 32 },
      { do: 'wait', hours },
      ...(repairs ? ([deliverAll, { do: 'pay_invoice', card: 'visa' }] as const) : []),
    ]),
  // A downgrade is booked, and perhaps another in its place.
  fc
    .tuple(fc.record(plan), fc.record(plan))
    .map(([first, second]): Command[] => [
      { do: 'change_plan', ...first },
      deliverAll,
      { do: 'change_plan', ...second },
    ]),
  fc.constantFrom<Command[]>(
    [{ do: 'cancel' }, deliverAll, { do: 'keep' }],
    [{ do: 'cancel' }, { do: 'wait', hours: 24 * 32 }],
    [
      { do: 'set_end', hours: 24 * 10 },
      deliverAll,
      { do: 'set_end', hours: 24 * 12 },
      deliverAll,
      { do: 'keep' },
    ],
    [{ do: 'set_end', hours: 24 * 10 }, deliverAll, { do: 'wait', hours: 24 * 15 }],
    [{ do: 'end_by_schedule' }, deliverAll, { do: 'wait', hours: 24 * 32 }],
    [{ do: 'refund', charge: 0, part: 2 }, deliverAll, { do: 'refund', charge: 0, part: 1 }],
    [{ do: 'dispute', charge: 0 }, deliverAll, { do: 'close_dispute', dispute: 0, outcome: 'won' }],
    [
      { do: 'dispute', charge: 0 },
      { do: 'close_dispute', dispute: 0, outcome: 'lost' },
    ],
  ),
);

/** Most cases begin with a purchase, since little can happen to an account that never bought anything. */
const purchase = (kind: Kind) =>
  fc.record(plan).map((chosen): Command[] => [
    { do: 'open_page', kind, process: 0, ...chosen },
    { do: 'pay_page', page: 0, card: 'visa' },
  ]);

export const story: fc.Arbitrary<Command[]> = fc
  .tuple(
    fc.oneof(
      { weight: 3, arbitrary: purchase('subscription') },
      { weight: 2, arbitrary: purchase('trial_pack') },
      { weight: 1, arbitrary: fc.constant<Command[]>([]) },
    ),
    fc.array(
      fc.oneof(
        { weight: 12, arbitrary: command.map((one) => [one]) },
        { weight: 2, arbitrary: arc },
        { weight: 1, arbitrary: rareArcs({ plan: fc.record(plan), points }, deliverAll) },
        { weight: 1, arbitrary: addressArcs(deliverAll) },
      ),
      {
        minLength: 1,
        maxLength: 18,
        size: 'max',
      },
    ),
  )
  .map(([first, rest]) => [...first, ...rest.flat()]);

const bySomebody: fc.Arbitrary<Command[]> = fc.oneof(
  fc.constantFrom<Command[]>(
    [{ do: 'open_link' }, { do: 'pay_page', page: 0, card: 'visa' }],
    [{ do: 'open_link' }, { do: 'open_link' }, { do: 'pay_page', page: 1, card: 'visa' }],
    [
      { do: 'open_page', kind: 'trial_pack', process: 0, tier: 'api_starter', period: 'monthly' },
      { do: 'pay_page', page: 0, card: 'visa' },
    ],
  ),
  card.map((one): Command[] => [{ do: 'invoice_pack', card: one }]),
);

const sale: fc.Arbitrary<Command[]> = fc.oneof(
  { weight: 4, arbitrary: bySomebody },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(299, 5_000), card)
      .map(([cents, one]): Command[] => [{ do: 'take_money', cents, card: one }]),
  },
);

/** What comes in between: how it is heard of, and what becomes of the money. */
const amid = command.filter((one) =>
  [
    'deliver',
    'drop',
    'work',
    'slow',
    'doom',
    'stall',
    'refund',
    'fail_refund',
    'dispute',
    'close_dispute',
    'wait',
  ].includes(one.do),
);

/** What is decided about a subscription meanwhile. */
const DECIDED: ReadonlySet<string> = new Set(['change_plan', 'cancel', 'end_subscription', 'set_aside']);

/** An account gets its customer with the first page that it opens, paid or not. */
const opened = fc.constantFrom<Command[]>(
  [{ do: 'open_page', kind: 'trial_pack', process: 0, tier: 'api_starter', period: 'monthly' }],
  [
    { do: 'open_page', kind: 'subscription', process: 0, tier: 'api_builder', period: 'monthly' },
    { do: 'pay_page', page: 0, card: 'visa' },
  ],
);

/** The trial pack as it is sold by us, by a link and by staff's invoice, and money that is for nothing. */
export const sales: fc.Arbitrary<Command[]> = fc
  .tuple(
    opened,
    fc.array(fc.oneof({ weight: 2, arbitrary: sale }, { weight: 3, arbitrary: amid.map((one) => [one]) }), {
      minLength: 2,
      maxLength: 14,
      size: 'max',
    }),
  )
  .map(([first, rest]) => [...first, ...rest.flat()]);

/** The trial pack and a subscription on one invoice, sold by staff. */
const joint: fc.Arbitrary<Command[]> = fc.oneof(
  fc.record(plan).map((chosen): Command[] => [{ do: 'subscribe_with_pack', ...chosen }]),
  fc.tuple(fc.record(plan), card).map(([chosen, one]): Command[] => [
    { do: 'open_joint_link', ...chosen },
    { do: 'pay_page', page: 0, card: one },
  ]),
);

const another = of('subscribe_in_dashboard', plan);
const byHand = of('refund', { charge: which, part: fc.constantFrom(1, 2, 3, 30) });

/** What is told of the two at once, what staff gives back before that, and where a process dies over it. */
const jointArc: fc.Arbitrary<Command[]> = fc.oneof(
  joint.map((sold): Command[] => [...sold, deliverAll]),
  fc.tuple(joint, byHand).map(([sold, back]): Command[] => [...sold, back, deliverAll]),
  fc
    .tuple(joint, fc.constantFrom(1, 1, 2), fc.array(another, { maxLength: 1 }))
    .map(([sold, count, beside]): Command[] => [
      ...sold,
      { do: 'doom_by_refund', process: 0, count },
      deliverAll,
      ...beside,
      { do: 'work', process: 1, background: false },
      deliverAll,
    ]),
);

/** Both on one charge; before it or after it another subscription, another pack, or both again. */
export const jointSales: fc.Arbitrary<Command[]> = fc
  .tuple(
    opened,
    fc.array(
      fc.oneof(
        { weight: 3, arbitrary: joint },
        { weight: 4, arbitrary: jointArc },
        { weight: 1, arbitrary: bySomebody },
        { weight: 1, arbitrary: another.map((one) => [one]) },
        { weight: 2, arbitrary: byHand.map((one) => [one]) },
        { weight: 1, arbitrary: command.filter(({ do: what }) => DECIDED.has(what)).map((one) => [one]) },
        { weight: 5, arbitrary: amid.map((one) => [one]) },
      ),
      { minLength: 2, maxLength: 9, size: 'max' },
    ),
  )
  .map(([first, rest]) => [...first, ...rest.flat()]);

/** A customer who has bought, is deleted, and whose money moves after that. */
export const former: fc.Arbitrary<Command[]> = fc
  .tuple(
    opened,
    fc.array(bySomebody, { minLength: 1, maxLength: 2 }),
    fc.array(amid, { maxLength: 4 }),
    fc.array(amid, { maxLength: 5 }),
    fc.constantFrom(1, 2),
    fc.constantFrom<Command[]>([], [], [{ do: 'dispute', charge: 0 }]),
    fc.constantFrom('won', 'lost'),
  )
  .map(([first, bought, before, after, part, disputed, outcome]) => [
    ...first,
    ...bought.flat(),
    ...before,
    ...disputed,
    { do: 'delete_customer' },
    ...after,
    ...(disputed.length > 0 ? [{ do: 'close_dispute', dispute: 0, outcome } as const] : []),
    { do: 'refund', charge: 0, part },
  ]);

export const recovery = fc.constantFrom<Recovery>('reconcile', 'catch_up');

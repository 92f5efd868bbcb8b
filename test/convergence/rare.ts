import fc from 'fast-check';
import type { Command } from './commands.ts';

type Plan = Pick<Extract<Command, { do: 'change_plan' }>, 'tier' | 'period'>;

/** What has to come in one order and at one moment, so that it would be drawn in none of ten thousand stories. */
export function rareArcs(
  { plan, points }: { plan: fc.Arbitrary<Plan>; points: fc.Arbitrary<number> },
  deliverAll: Extract<Command, { do: 'deliver' }>,
): fc.Arbitrary<Command[]> {
  const number = fc.constantFrom(0, 1);
  const holds = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 5 });
  const meanwhile = fc.constantFrom<Command>(
    { do: 'cancel' },
    { do: 'end_subscription' },
    { do: 'set_aside', which: 0, how: 'end_later' },
    { do: 'refund', charge: 0, part: 2 },
    { do: 'dispute', charge: 0 },
    { do: 'wait', hours: 24 * 32 },
    { do: 'come_back', page: 0, process: 1 },
  );
  const reading = (process: number): Command => ({ ...deliverAll, to: process, background: true });

  return fc.oneof(
    // Stripe is read slowly, and things go on.
    fc
      .tuple(number, holds, fc.array(meanwhile, { minLength: 1, maxLength: 2 }))
      .map(([process, held, between]): Command[] => [
        { do: 'slow', process, holds: held },
        reading(process),
        ...between,
        { ...deliverAll, to: 1 - process },
      ]),
    // It gives no sign of life meanwhile, and the other one takes over what it has read for.
    fc
      .tuple(number, holds, meanwhile)
      .map(([process, held, between]): Command[] => [
        { do: 'slow', process, holds: held },
        reading(process),
        { do: 'stall' },
        between,
        { do: 'work', process: 1 - process, background: false },
        deliverAll,
      ]),
    // One dies and the other goes on, which dies as well, or the one that was started again.
    fc
      .tuple(points, points, number)
      .map(([first, second, next]): Command[] => [
        { do: 'doom', process: 0, points: first },
        deliverAll,
        { do: 'work', process: 1, background: false },
        { do: 'doom', process: next, points: second },
        { ...deliverAll, to: next },
        { do: 'work', process: next, background: false },
        { do: 'work', process: next, background: false },
      ]),
    // It dies while Stripe keeps it waiting for one thing, over another.
    fc
      .tuple(points, holds)
      .map(([left, held]): Command[] => [
        { do: 'slow', process: 0, holds: held },
        { do: 'doom', process: 0, points: left },
        reading(0),
        { ...deliverAll, background: true },
        { do: 'work', process: 0, background: true },
      ]),
    // Another page is asked for, and the process dies over the one that it closes.
    fc.tuple(points, plan, plan).map(([left, first, second]): Command[] => [
      { do: 'open_page', kind: 'subscription', process: 0, ...first },
      { do: 'doom', process: 0, points: left },
      { do: 'open_page', kind: 'subscription', process: 0, ...second },
      { do: 'open_page', kind: 'subscription', process: 1, ...second },
    ]),
    // A first payment fails; it is made later, or never.
    fc
      .tuple(plan, fc.constantFrom<Command>({ do: 'pay_invoice', card: 'visa' }, { do: 'wait', hours: 24 }))
      .map(([chosen, then]): Command[] => [
        { do: 'decline_next', times: 1 },
        { do: 'subscribe_in_dashboard', ...chosen },
        deliverAll,
        then,
        deliverAll,
      ]),
    // A renewal fails and is paid for, and of both we hear at last, the newest first.
    fc.constant<Command[]>([
      { do: 'decline_next', times: 1 },
      { do: 'wait', hours: 24 * 32 },
      { do: 'pay_invoice', card: 'visa' },
    ]),
    // A pack and its money: in part with the customer and the whole with the bank, for longer than it lasts.
    fc
      .tuple(fc.constantFrom('won', 'lost'), fc.boolean())
      .map(([outcome, heard]): Command[] => [
        { do: 'refund', charge: 0, part: 2 },
        { do: 'dispute', charge: 0 },
        ...(heard ? [deliverAll] : []),
        { do: 'wait', hours: 24 * 15 },
        { do: 'close_dispute', dispute: 0, outcome },
      ]),
    // Two old pages of the pack are paid for an hour apart, and of the second we hear first.
    plan.map((chosen): Command[] => [
      { do: 'open_page', kind: 'trial_pack', process: 0, ...chosen },
      { do: 'find_old_page', kind: 'trial_pack', ...chosen },
      { do: 'find_old_page', kind: 'trial_pack', ...chosen },
      deliverAll,
      { do: 'pay_page', page: 0, card: 'visa' },
      { do: 'wait', hours: 1 },
      { do: 'pay_page', page: 1, card: 'visa' },
      { ...deliverAll, picks: [1] },
    ]),
    // Nothing is ever heard of a purchase.
    plan.map((chosen): Command[] => [
      { do: 'open_page', kind: 'subscription', process: 1, ...chosen },
      deliverAll,
      { do: 'pay_page', page: 0, card: 'visa' },
      ...Array.from({ length: 5 }, (): Command => ({ do: 'drop', pick: 0 })),
    ]),
    // It ends, or its money goes back, and we are not told.
    fc.constantFrom<Command[]>(
      [deliverAll, { do: 'end_subscription' }, { do: 'drop', pick: 0 }],
      [deliverAll, { do: 'refund', charge: 0, part: 1 }, { do: 'drop', pick: 0 }],
    ),
    // A year of the dearest is ended in the middle, and two of the cheapest begin at once.
    fc.constant<Command[]>([
      { do: 'change_plan', tier: 'agency_manual', period: 'annual' },
      deliverAll,
      { do: 'end_subscription' },
      deliverAll,
      { do: 'subscribe_in_dashboard', tier: 'api_starter', period: 'monthly' },
      { do: 'subscribe_in_dashboard', tier: 'api_starter', period: 'monthly' },
    ]),
  );
}

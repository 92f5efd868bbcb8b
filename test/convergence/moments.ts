import { expect } from 'vitest';
import type { Subscription } from '../../server/database/entities/billing.ts';
import type { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { isLive } from './oracle.ts';
import type { Ending } from './story.ts';

/** Every moment that we told of a subscription is one that Stripe held, and the last ones are those that hold. */
export function momentsAreStripes(
  { lane, history, planChanges }: Ending,
  customer: string,
  log: readonly AuditEntry[],
  mails: readonly Email[],
  row: Subscription | null,
): void {
  const of = (template: string) => mails.filter((mail) => mail.template === template).map(({ data }) => data);
  const entries = (...actions: string[]) => log.filter(({ action }) => actions.includes(action));

  const ends = new Set(history.map(({ endsAt }) => endsAt));
  const scheduled = entries('subscription.cancel_scheduled').map(({ payload }) => isoOf(payload['ends_at']));
  for (const moment of scheduled) expect(ends, 'Stripe was to end it then').toContain(moment);
  expect(
    of('cancellation_scheduled')
      .map((data) => member(data, 'endsAt'))
      .sort(),
    'a mail for each moment of an end',
  ).toEqual(scheduled.toSorted());
  if (row?.endsAt)
    expect(scheduled.at(-1), 'the last planned end is the one that holds').toBe(row.endsAt.toISOString());
  const lastOfCancel = log.findLast(
    ({ action, payload }) =>
      /cancel_(un)?scheduled$/.test(action) ||
      (action === 'subscription.status_changed' && !isLive(String(payload['to']))),
  );
  if (row && isLive(row.status))
    expect(
      lastOfCancel?.action === 'subscription.cancel_scheduled',
      'the log says whether it is to end',
    ).toBe(row.endsAt != null);

  const over = lane.localStripe.world
    .ofCustomer('subscription', customer)
    .flatMap(({ ended_at }) => (ended_at === null ? [] : isoOf(new Date(ended_at * 1000).toISOString())));
  for (const data of of('subscription_ended'))
    expect(over, 'it ended when Stripe says').toContain(member(data, 'endedAt'));
  for (const data of of('plan_changed')) {
    const moment = member(data, 'changedAt');
    if (moment !== null) expect(planChanges, 'the plan changed when Stripe says').toContain(moment);
  }

  const booked = { tier: row?.pendingTier ?? null, billing_period: row?.pendingBillingPeriod ?? null };
  for (const what of ['tier', 'billing_period'] as const) {
    const present = what === 'tier' ? row?.tier : row?.billingPeriod;
    const steps = entries(`subscription.${what}_change_scheduled`, `subscription.${what}_change_unscheduled`);
    for (const [index, { action }] of steps.entries())
      if (action.endsWith('unscheduled'))
        expect(steps[index - 1]?.action, 'only what was booked is called off').toMatch(/_change_scheduled$/);
    if (booked[what] === null || booked[what] === present) continue;
    expect(steps.at(-1)?.payload, 'the last booked change is the one that holds').toMatchObject({
      to: booked[what],
      changes_at: row?.pendingChangesAt?.toISOString().replace('.000', ''),
    });
  }
}

export const member = (data: unknown, name: string): unknown =>
  typeof data === 'object' && data !== null ? Reflect.get(data, name) : undefined;

/** A moment of the wire, to the second, as everything else here is written. */
const isoOf = (moment: unknown): string => new Date(String(moment)).toISOString();

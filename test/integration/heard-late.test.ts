import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Email } from '../../server/database/entities/journal.ts';
import { processEvents } from '../../server/stripe/worker.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const DAY = 86_400;
const NOW_S = NOW.getTime() / 1000;

/** Delivers an event that Stripe made at `created`, and works on it. */
async function hear(
  type: Parameters<typeof deliver>[1],
  object: Parameters<typeof deliver>[2],
  created = NOW_S,
): Promise<void> {
  const id = await deliver(bench, type, object, { created });
  expect((await processEvents(bench, [id])).size).toBe(0);
}

const mailsOf = async (accountId: string, template: string) =>
  (await bench.db.orm.em.fork().find(Email, { accountId, template }, { orderBy: { createdAt: 'asc' } })).map(
    ({ data }) => data,
  );

describe('the notice that a trial ends', () => {
  const trialing = async (trialEnd: number) => {
    const { accountId, customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer, status: 'trialing', trial_end: trialEnd }));
    return { accountId, sub };
  };

  it('is of the trial that ends three days after the event, not of one extended since', async () => {
    const extended = NOW_S + 30 * DAY;
    const { accountId, sub } = await trialing(extended);
    // Told three days before the first end; by the time we hear of it the trial goes on for a month.
    await hear('customer.subscription.trial_will_end', sub, NOW_S - 2 * DAY);
    expect(await mailsOf(accountId, 'trial_ending')).toEqual([]);
    // It did not take the place of the right one, which is told once.
    for (let n = 0; n < 2; n++)
      await hear('customer.subscription.trial_will_end', sub, extended - 3 * DAY + n);
    expect(await mailsOf(accountId, 'trial_ending')).toMatchObject([
      { trialEndsAt: new Date(extended * 1000).toISOString() },
    ]);
  });

  it('is not sent once the trial is over', async () => {
    const { accountId, sub } = await trialing(NOW_S - DAY);
    bench.stripe.change(sub.id, { status: 'active' });
    await hear('customer.subscription.trial_will_end', sub, NOW_S - 4 * DAY);
    expect(await mailsOf(accountId, 'trial_ending')).toEqual([]);
  });
});

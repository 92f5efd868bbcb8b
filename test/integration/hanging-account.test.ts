import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import type { Series } from '../../server/database/recurring.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { expectNothingHeld } from '../support/held.ts';
import { processEvents, startProcessing } from '../support/processing.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
let worker: Series | null;
let hold: Hold;
beforeEach(async () => {
  const opened = await openBench();
  // Patient, so that what hangs hangs for as long as an account may at all, which is 20 s.
  const gateway = connectStripe({
    secretKey: 'sk_test_patient',
    apiBase: opened.stripe.url,
    timeoutMs: 60_000,
  });
  bench = { ...opened, gateway };
  worker = null;
  hold = holdBack();
});
afterEach(async () => {
  hold.release();
  await worker?.close();
  await bench.close();
});

const OTHERS = 20;

type Hold = { release(): void; readonly released: Promise<void> };

function holdBack(): Hold {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { release: () => release(), released };
}

/** Calls whose path matches are answered only once the test lets go; says how many came. */
function hangOn(matches: (path: string) => boolean): () => number {
  let hanging = 0;
  bench.stripe.interfere(async ({ path }) => {
    if (!matches(path)) return undefined;
    hanging += 1;
    await hold.released;
    return undefined;
  });
  return () => hanging;
}

async function subscriber() {
  const { accountId, customer } = await addCustomer(bench);
  return { accountId, customer, sub: bench.stripe.put(subscription({ customer })) };
}

const bought = async (count: number): Promise<string[]> => {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1)
    ids.push(await deliver(bench, 'customer.subscription.created', (await subscriber()).sub));
  return ids;
};
const em = () => bench.db.orm.em.fork();
const done = (ids: readonly string[]) => em().count(StripeEvent, { id: { $in: [...ids] }, state: 'done' });
const allDone = (ids: readonly string[]) => untilTrue(async () => (await done(ids)) === ids.length);
const syncOf = (accountId: string) => em().findOneOrFail(AccountSync, { accountId });

describe('while Stripe does not answer about one account', () => {
  it('the others are done, and one pass serves all events of an account', async () => {
    const { customer, sub } = await subscriber();
    const hanging = hangOn((path) => path.includes(customer));
    const stuck = [
      await deliver(bench, 'customer.subscription.created', sub),
      await deliver(bench, 'customer.subscription.updated', sub),
    ];
    const others = await bought(OTHERS);
    const outcome = processEvents(bench, [...stuck, ...others]);
    await allDone(others);
    expect(await done(stuck)).toBe(0);
    hold.release();
    expect((await outcome).size).toBe(0);
    expect(await done(stuck)).toBe(2);
    expect(hanging()).toBe(1);
  });

  it('its later events take no places from others, and make it due again at once', async () => {
    const { accountId, customer, sub } = await subscriber();
    const hanging = hangOn((path) => path.includes(customer));
    worker = startProcessing(bench);
    const stuck = [await deliver(bench, 'customer.subscription.updated', sub)];
    await untilTrue(() => hanging() === 1);
    // As many as there are places, and each woke the workers.
    for (let n = 0; n < 35; n += 1) stuck.push(await deliver(bench, 'customer.subscription.updated', sub));
    const others = await bought(OTHERS);
    await allDone(others);
    expect(await done(stuck)).toBe(0);
    expect(await syncOf(accountId)).toMatchObject({ wanted: 36, done: 0 });

    hold.release();
    await allDone(stuck);
    await untilTrue(async () => (await syncOf(accountId)).dueAt === null);
    expect(await syncOf(accountId)).toMatchObject({ wanted: 36, done: 36, lease: null, attempts: 0 });
    // The look that hung, and one for all that were heard of meanwhile.
    expect(hanging()).toBe(2);
    expect(await em().findOne(Subscription, { accountId })).toMatchObject({ version: 1 });
  });

  it('nothing in the database is held meanwhile', async () => {
    const { customer, sub } = await subscriber();
    const hanging = hangOn((path) => path.includes(customer));
    worker = startProcessing(bench);
    const stuck = [await deliver(bench, 'customer.subscription.updated', sub)];
    await untilTrue(() => hanging() === 1);
    // Through several signs of life.
    await expectNothingHeld(bench.db, 2_500);
    hold.release();
    await allDone(stuck);
  });

  it('nor about the dispute that would say whose it is, nobody else waits', async () => {
    hangOn((path) => path.startsWith('/v1/disputes'));
    const { customer } = await addCustomer(bench);
    const intent = bench.stripe.newId('pi');
    bench.stripe.put({ id: intent, object: 'payment_intent', customer });
    const dispute = bench.stripe.put({ id: 'dp_1', object: 'dispute', payment_intent: intent });
    const stuck = await deliver(bench, 'charge.dispute.created', dispute);
    const others = await bought(OTHERS);
    const outcome = processEvents(bench, [stuck, ...others]);
    await allDone(others);
    expect(await done([stuck])).toBe(0);
    hold.release();
    expect((await outcome).size).toBe(0);
    expect(await done([stuck])).toBe(1);
  });
});

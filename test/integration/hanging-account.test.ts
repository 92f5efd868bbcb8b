import type { PgBoss } from 'pg-boss';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { startBoss, stopBoss, work } from '../../server/database/jobs.ts';
import { connectStripe } from '../../server/stripe/gateway.ts';
import { processEvents, STRIPE_EVENT_WORKERS, stripeEventHandler } from '../../server/stripe/worker.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
let boss: PgBoss | null;
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
  boss = null;
  hold = holdBack();
});
afterEach(async () => {
  hold.release();
  if (boss) await stopBoss(boss);
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
const taken = async (eventId: string): Promise<boolean> => {
  const { rows } = await bench.db.pool.query<{ state: string }>(
    "select state::text from pgboss.job where data->>'eventId' = $1",
    [eventId],
  );
  return rows[0]?.state !== 'created';
};

describe('while Stripe does not answer about one account', () => {
  it('the others of its batch are done, and one pass serves all events of an account', async () => {
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

  it('its later events leave the places at the queue to those of others', async () => {
    const { accountId, customer, sub } = await subscriber();
    hangOn((path) => path.includes(customer));
    boss = await startBoss({ url: bench.db.url, poolMax: 4, applicationName: 'hanging', log: bench.log });
    await work(boss, 'stripe-event', STRIPE_EVENT_WORKERS, stripeEventHandler(bench));
    const stuck: string[] = [];
    // One after the other, so that each is in a batch of its own: more of them than there are places.
    for (let n = 0; n < STRIPE_EVENT_WORKERS.concurrency + 2; n += 1) {
      const id = await deliver(bench, 'customer.subscription.updated', sub);
      stuck.push(id);
      await untilTrue(() => taken(id));
    }
    const others = await bought(OTHERS);
    await allDone(others);
    expect(await done(stuck)).toBe(0);

    hold.release();
    await allDone(stuck);
    expect(await em().findOne(Subscription, { accountId })).toMatchObject({ version: 1 });
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

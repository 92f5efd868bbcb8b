import { afterEach, beforeEach, expect, it } from 'vitest';
import { changeEmail } from '../../server/billing/change-email.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import type { Series } from '../../server/database/recurring.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { sweep } from '../../server/stripe/repair/sweep.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { expectNothingHeld } from '../support/held.ts';
import { processEvents, startProcessing } from '../support/processing.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
let hanging: number;
let release: () => void;
const workers: Series[] = [];
beforeEach(async () => {
  const opened = await openBench();
  const released = Promise.withResolvers<void>();
  [hanging, release] = [0, released.resolve];
  // Patient, so that what hangs hangs until the test lets go.
  const gateway = connectStripe({
    secretKey: 'sk_test_patient',
    apiBase: opened.stripe.url,
    timeoutMs: 60_000,
  });
  bench = { ...opened, gateway };
  bench.stripe.interfere(async ({ path }) => {
    hanging += 1;
    await released.promise;
    if (!path.startsWith('/v1/events')) return undefined;
    return { kind: 'answer', status: 200, body: '{"object":"list","data":[],"has_more":false}' };
  });
});
afterEach(async () => {
  release();
  for (const worker of workers.splice(0)) await worker.close();
  await bench.close();
});

async function subscriber() {
  const { accountId, customer } = await addCustomer(bench);
  return { accountId, sub: bench.stripe.put(subscription({ customer })) };
}

const deps = () => ({ ...bench, livemode: false });

/** Everything that asks Stripe and is not a person's call over HTTP; `busy-reads` and `minting` have those. */
const paths: Record<string, () => Promise<() => Promise<unknown>>> = {
  async 'the pass of a success page'() {
    const { accountId } = await subscriber();
    return () => synchronise(bench, accountId, { kind: 'checkout_session', sessionId: 'cs_test_1' });
  },
  async 'finding out whose a dispute is'() {
    const { customer } = await addCustomer(bench);
    const intent = bench.stripe.newId('pi');
    bench.stripe.put({ id: intent, object: 'payment_intent', customer });
    const dispute = bench.stripe.put({ id: 'dp_1', object: 'dispute', payment_intent: intent });
    const event = await deliver(bench, 'charge.dispute.created', dispute);
    return () => processEvents(bench, [event]);
  },
  async 'asking for events that never arrived'() {
    return () => catchUp(deps());
  },
  async 'a comparison with Stripe'() {
    const { accountId } = await subscriber();
    return () => reconcile(bench, accountId, { by: 'staff' });
  },
  async 'a comparison that changes nothing'() {
    const { accountId } = await subscriber();
    return () => reconcile(bench, accountId, { by: 'staff', dryRun: true });
  },
  async 'the comparison of the night'() {
    await subscriber();
    return () => sweep({ ...deps(), throttle: async () => undefined }, new AbortController().signal);
  },
  async 'another address'() {
    const { accountId } = await subscriber();
    const stripe = bench.gateway.within(60_000);
    return () => changeEmail({ ...bench, stripe }, accountId, 'other@driftstack.test');
  },
};

it.each(Object.keys(paths))(
  '%s holds no connection, transaction or lock while Stripe is silent',
  async (name) => {
    const ask = await paths[name]?.();
    const outcome = ask?.();
    await untilTrue(() => hanging > 0);
    await expectNothingHeld(bench.db, 1_500);
    // Nor one in which nothing is open.
    await untilTrue(() => bench.db.pool.idleCount === bench.db.pool.totalCount);
    release();
    await outcome;
  },
);

it('two workers that share accounts hold nothing either, and each account is written once', async () => {
  const other = { ...bench, db: await bench.another() };
  const events: string[] = [];
  for (let n = 0; n < 40; n += 1)
    events.push(await deliver(bench, 'customer.subscription.created', (await subscriber()).sub));
  for (const one of [bench, other]) workers.push(startProcessing(one));
  // More than one worker has places for, so both have some.
  await untilTrue(() => hanging >= 40);
  await expectNothingHeld(bench.db, 1_500);
  release();
  const em = bench.db.orm.em.fork();
  await untilTrue(async () => (await em.count(StripeEvent, { id: { $in: events }, state: 'done' })) === 40);
  // Each written once, whoever looked.
  expect(await em.count(Subscription, { version: 1 })).toBe(40);
});

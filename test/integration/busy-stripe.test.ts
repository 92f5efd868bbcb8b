import type { PgBoss } from 'pg-boss';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { startBoss, stopBoss, work } from '../../server/database/jobs.ts';
import { STRIPE_EVENT_WORKERS, stripeEventHandler } from '../../server/stripe/worker.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

const ACCOUNTS = 60;

let bench: Bench;
let boss: PgBoss | null;
beforeEach(async () => {
  bench = await openBench();
  boss = null;
});
afterEach(async () => {
  if (boss) await stopBoss(boss);
  await bench.close();
});

it('a backlog that meets the rate limit of Stripe is settled in its first run, each account once', async () => {
  const refused = new Set<string>();
  bench.stripe.interfere(({ path }) => {
    // As a limit does that lets half of the calls through, and on a slow machine too.
    if (refused.has(path)) return undefined;
    refused.add(path);
    const error = { type: 'invalid_request_error', code: 'rate_limit', message: 'Too many requests' };
    return { kind: 'answer', status: 429, body: JSON.stringify({ error }) };
  });
  for (let n = 0; n < ACCOUNTS; n += 1) {
    const { customer } = await addCustomer(bench);
    await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer })));
  }
  boss = await startBoss({ url: bench.db.url, poolMax: 4, applicationName: 'busy', log: bench.log });
  await work(boss, 'stripe-event', STRIPE_EVENT_WORKERS, stripeEventHandler(bench));
  const em = () => bench.db.orm.em.fork();
  await untilTrue(async () => (await em().count(StripeEvent, { state: 'done' })) === ACCOUNTS, 60_000);
  expect(refused.size).toBe(ACCOUNTS);
  expect(await em().count(Subscription, { version: 1 })).toBe(ACCOUNTS);
  const { rows } = await bench.db.pool.query<{ count: number }>(
    "select count(*)::int as count from pgboss.job where name = 'stripe-event' and retry_count > 0",
  );
  expect(rows[0]?.count).toBe(0);
}, 90_000);

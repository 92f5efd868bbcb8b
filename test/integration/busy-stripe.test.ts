import { afterEach, beforeEach, expect, it } from 'vitest';
import { AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import type { Series } from '../../server/database/recurring.ts';
import { startProcessing } from '../support/processing.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

const ACCOUNTS = 60;

let bench: Bench;
let worker: Series | null;
beforeEach(async () => {
  bench = await openBench();
  worker = null;
});
afterEach(async () => {
  await worker?.close();
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
  const failed: object[] = [];
  const log = { ...bench.log, warn: (details: object) => void failed.push(details) };
  worker = startProcessing({ ...bench, log });
  const em = () => bench.db.orm.em.fork();
  await untilTrue(async () => (await em().count(StripeEvent, { state: 'done' })) === ACCOUNTS, 60_000);
  expect(refused.size).toBe(ACCOUNTS);
  expect(await em().count(Subscription, { version: 1 })).toBe(ACCOUNTS);
  expect(failed).toEqual([]);
  expect(await em().count(AccountSync, { dueAt: null, attempts: 0, reason: null })).toBe(ACCOUNTS);
}, 90_000);

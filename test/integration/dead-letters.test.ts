import type { PgBoss } from 'pg-boss';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, StripeEvent } from '../../server/database/entities/journal.ts';
import { startBoss, stopBoss, work } from '../../server/database/jobs.ts';
import { stripeEventHandler } from '../../server/stripe/worker.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';
import {
  addCustomer,
  type Bench,
  deliver,
  eventBody,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';

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

const em = () => bench.db.orm.em.fork();
const eventOf = (id: string) => em().findOneOrFail(StripeEvent, id);
const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const cli = (...args: string[]) =>
  runCli({ databaseUrl: bench.db.url, stripeUrl: bench.stripe.url }, ...args);
const jobsOf = async (eventId: string) => {
  const { rows } = await bench.db.pool.query<{ name: string; state: string; tries: number; pause: number }>(
    `select name, state::text, retry_count as tries,
round(extract(epoch from start_after - coalesce(completed_on, started_on, created_on)))::int as pause
from pgboss.job where data->>'eventId' = $1 order by name`,
    [eventId],
  );
  return rows;
};

/** Makes the queue give the job of an event up after so many tries, a second apart. */
const giveUpAfter = (tries: number, eventId: string) =>
  bench.db.pool.query(
    "update pgboss.job set retry_limit = $1, retry_delay = 1, retry_delay_max = 1 where data->>'eventId' = $2",
    [tries - 1, eventId],
  );

/** The worker of the service. */
async function startWorker(): Promise<void> {
  boss = await startBoss({ url: bench.db.url, poolMax: 3, applicationName: 'dead-letters', log: bench.log });
  await work(boss, 'stripe-event', { batchSize: 20, concurrency: 2 }, stripeEventHandler(bench));
}

/** Stripe answers everything but this one invoice. */
function poisonInvoice(): void {
  bench.stripe.interfere(({ path }) =>
    path.startsWith('/v1/invoices/in_poison') ? { kind: 'answer', status: 500, body: '{}' } : undefined,
  );
}

const poison = (customer: string, members: Record<string, unknown> = {}) =>
  deliver(bench, 'invoice.paid', { id: 'in_poison', object: 'invoice', customer }, members);

describe('an event that cannot be processed', () => {
  it('is tried again, then given up with its reason, and delays nobody meanwhile', async () => {
    const sick = await addCustomer(bench);
    const well = await addCustomer(bench);
    poisonInvoice();
    const bad = await poison(sick.customer);
    await giveUpAfter(3, bad);
    await startWorker();
    await untilTrue(async () => (await eventOf(bad)).attempts > 0);

    // While it backs off, another event of the same account and one of another are done at once.
    const ids: string[] = [];
    for (const { customer } of [sick, well]) {
      ids.push(
        await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer }))),
      );
    }
    await untilTrue(
      async () => (await em().count(StripeEvent, { id: { $in: ids }, state: 'done' })) === 2,
      3_000,
    );
    expect((await eventOf(bad)).state).toBe('received');
    for (const { accountId } of [sick, well]) expect(await rowOf(accountId)).toMatchObject({ version: 1 });

    await untilTrue(async () => (await eventOf(bad)).state === 'dead');
    const given = await eventOf(bad);
    expect(given.error).toMatch(/^Stripe /);
    expect(given.processedAt).not.toBeNull();
    expect(await jobsOf(bad)).toMatchObject([
      { name: 'stripe-event', state: 'failed', tries: 2 },
      { name: 'stripe-event-dead', state: 'created' },
    ]);
  });

  it('waits longer after each try, up to a quarter of an hour, for some seven hours', async () => {
    const { rows } = await bench.db.pool.query(
      "select retry_limit, retry_delay, retry_backoff, retry_delay_max from pgboss.queue where name = 'stripe-event'",
    );
    expect(rows).toEqual([{ retry_limit: 35, retry_delay: 2, retry_backoff: true, retry_delay_max: 900 }]);
    const { customer } = await addCustomer(bench);
    poisonInvoice();
    const bad = await poison(customer);
    await startWorker();
    await untilTrue(async () => (await eventOf(bad)).attempts === 2);
    await untilTrue(async () => (await jobsOf(bad))[0]?.state === 'retry');
    expect((await jobsOf(bad))[0]?.pause).toBeGreaterThanOrEqual(4);
  });

  it('does not use up the time that Stripe has for the other events of its account', async () => {
    const { accountId, customer } = await addCustomer(bench);
    // It happened before the other one, and would be read first but for its failed attempt.
    const bad = await poison(customer, { created: NOW.getTime() / 1000 - 60 });
    await em().nativeUpdate(StripeEvent, { id: bad }, { accountId, attempts: 1 });
    const invoice = { id: 'in_good', object: 'invoice', customer, status: 'void' };
    await deliver(bench, 'invoice.paid', bench.stripe.put(invoice));
    const order: string[] = [];
    bench.stripe.interfere(({ path }) => {
      if (path.startsWith('/v1/invoices/')) order.push(path.slice('/v1/invoices/'.length));
      return undefined;
    });
    await startWorker();
    await untilTrue(async () => (await em().count(StripeEvent, { state: 'received' })) === 0);
    expect(order.slice(0, 2)).toEqual(['in_good', 'in_poison']);
  });
});

describe('the commands for events', { timeout: 120_000 }, () => {
  it('list and show what was given up, and replay it once the reason is gone', async () => {
    const { accountId, customer } = await addCustomer(bench);
    poisonInvoice();
    const bad = await poison(customer);
    await giveUpAfter(1, bad);
    await startWorker();
    await untilTrue(async () => (await eventOf(bad)).state === 'dead');
    bench.stripe.interfere(() => undefined);
    bench.stripe.put({ id: 'in_poison', object: 'invoice', customer, status: 'void' });
    const account = formatId('acc', accountId);

    const listed = await cli('events', 'list', '--state', 'dead', '--account', account);
    expect(listed).toMatchObject({ code: 0, err: '' });
    expect(listed.out).toMatch(new RegExp(`^${bad} .* dead .* invoice.paid  ${account}  Stripe `));
    expect((await cli('events', 'list', '--state', 'done', '--json')).json()).toEqual({ data: [] });
    const shown = (await cli('events', 'show', bad, '--json')).json();
    expect(shown).toMatchObject({ event_id: bad, state: 'dead', body: { id: bad, type: 'invoice.paid' } });

    expect((await cli('events', 'replay', bad)).out).toBe(`${bad} goes back to the worker.\n`);
    await untilTrue(async () => (await eventOf(bad)).state === 'done');
    const entries = await em().find(AuditEntry, { accountId, action: 'operator.event_replayed' });
    expect(entries).toMatchObject([
      { actorType: 'staff', targetResourceId: bad, payload: { was: 'dead', type: 'invoice.paid' } },
    ]);
    const again = await cli('events', 'replay', bad);
    expect(again).toMatchObject({ code: 1, out: '' });
    expect(again.err).toContain('was not set aside');
    expect(await em().count(AuditEntry, { action: 'operator.event_replayed' })).toBe(1);
  });

  it('replay all of them, those without an account too, and refuse a call that names neither', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const ids = [await poison(customer), eventBody('invoice.paid', {}).id];
    for (const id of ids) {
      const copy = { ...(await eventOf(ids[0] ?? '')), id, state: 'dead' as const, error: 'a reason' };
      await em().upsert(StripeEvent, { ...copy, accountId: id === ids[0] ? accountId : null });
    }
    expect((await cli('events', 'replay')).code).toBe(2);
    expect((await cli('events', 'replay', 'evt_1', '--all-dead')).code).toBe(2);
    expect((await cli('events', 'replay', '--all-dead', '--json')).json()).toEqual({
      replayed: ids.toSorted(),
    });
    expect(await em().count(StripeEvent, { state: 'received', error: null, attempts: 0 })).toBe(2);
    expect(await em().count(AuditEntry, { action: 'operator.event_replayed' })).toBe(1);
    expect((await cli('events', 'replay', '--all-dead')).out).toBe('No event has been given up.\n');
    expect((await cli('events', 'replay', 'evt_unknown')).err).toContain('no event evt_unknown');
  });
});

describe('the figures', () => {
  let http: TestHttp;
  afterEach(() => http.close());

  it('show how long the oldest event waits and how many were given up', async () => {
    http = await startHttp({});
    const figures = async () => (await http.call('/metrics')).text();
    expect(await figures()).toContain('driftstack_stripe_event_oldest_seconds 0');
    const two = [20, 90].map((secondsAgo) => ({ secondsAgo, state: 'received' as const }));
    for (const { secondsAgo, state } of [...two, { secondsAgo: 500, state: 'dead' as const }]) {
      const { id } = eventBody('invoice.paid', {});
      const at = new Date(Date.now() - secondsAgo * 1000);
      await http.db.orm.em.fork().insert(StripeEvent, {
        ...{ id, state, type: 'invoice.paid', livemode: false, raw: Buffer.from('{}'), attempts: 0 },
        createdAt: at,
        receivedAt: at,
      });
    }
    const text = await figures();
    expect(text).toMatch(/driftstack_stripe_event_oldest_seconds 9\d/);
    expect(text).toContain('driftstack_stripe_events_unsettled{state="received"} 2');
    expect(text).toContain('driftstack_stripe_events_unsettled{state="dead"} 1');
  });
});

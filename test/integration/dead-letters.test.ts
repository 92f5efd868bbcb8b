import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, StripeEvent } from '../../server/database/entities/journal.ts';
import type { Series } from '../../server/database/recurring.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { startProcessing } from '../support/processing.ts';
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
let worker: Series | null;
beforeEach(async () => {
  bench = await openBench();
  worker = null;
});
afterEach(async () => {
  await worker?.close();
  await bench.close();
});

const em = () => bench.db.orm.em.fork();
const eventOf = (id: string) => em().findOneOrFail(StripeEvent, id);
const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const cli = (...args: string[]) =>
  runCli({ databaseUrl: bench.db.url, stripeUrl: bench.stripe.url }, ...args);
/** The account's place in the queue, and for how many seconds more it is to wait. */
const syncOf = async (accountId: string) => {
  const { rows } = await bench.db.pool.query<{
    attempts: number;
    pause: number | null;
    reason: string | null;
  }>(
    `select attempts, reason, extract(epoch from due_at - now())::float8 as pause from account_sync
where account_id = $1`,
    [accountId],
  );
  return rows[0] ?? { attempts: 0, pause: null, reason: null };
};

/** As if an event had been tried in vain for seven hours, all but so many times. */
const giveUpAfter = (tries: number, eventId: string) =>
  bench.db.pool.query(
    "update stripe_event set attempts = 35 - $1, received_at = received_at - interval '7 hours' where id = $2",
    [tries, eventId],
  );

/** What an account waits for is over, unless somebody is at it. */
const makeDue = (accountId: string) =>
  bench.db.pool.query(
    'update account_sync set due_at = now() where account_id = $1 and lease is null and due_at is not null',
    [accountId],
  );

/** The worker of the service. */
const startWorker = (): void => {
  worker = startProcessing(bench);
};

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
    await giveUpAfter(4, bad);
    startWorker();
    await untilTrue(async () => (await eventOf(bad)).attempts > 31);

    // While it backs off, another event of the same account and one of another are done at once.
    const ids: string[] = [];
    for (const { customer } of [sick, well]) {
      ids.push(
        await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer }))),
      );
    }
    await untilTrue(async () => (await em().count(StripeEvent, { id: { $in: ids }, state: 'done' })) === 2);
    expect((await eventOf(bad)).state).toBe('received');
    for (const { accountId } of [sick, well]) expect(await rowOf(accountId)).toMatchObject({ version: 1 });

    await untilTrue(async () => {
      await makeDue(sick.accountId);
      return (await eventOf(bad)).state === 'dead';
    });
    const given = await eventOf(bad);
    expect(given.error).toMatch(/^Stripe /);
    expect(given.processedAt).not.toBeNull();
    expect(bench.log.errors).toContainEqual(expect.objectContaining({ eventId: bad }));
    // Nothing is left to come back for.
    expect(await syncOf(sick.accountId)).toMatchObject({ pause: null });
  });

  it('waits longer after each try, up to a quarter of an hour', async () => {
    const { accountId, customer } = await addCustomer(bench);
    poisonInvoice();
    const bad = await poison(customer);
    const { rows: began } = await bench.db.pool.query<{ at: string }>('select clock_timestamp()::text as at');
    startWorker();
    await untilTrue(async () => (await eventOf(bad)).attempts === 2);
    await untilTrue(async () => (await syncOf(accountId)).attempts === 2);
    const { pause, reason } = await syncOf(accountId);
    // Two seconds after the first try, and four after the second: both since it began, whenever we look.
    expect(pause).toBeLessThanOrEqual(4);
    const { rows } = await bench.db.pool.query<{ late: boolean }>(
      "select due_at >= $2::timestamptz + interval '6 seconds' as late from account_sync where account_id = $1",
      [accountId, began[0]?.at],
    );
    expect(rows).toEqual([{ late: true }]);
    expect(reason).toMatch(/^Stripe /);
    const tenth = 'update account_sync set attempts = 9, due_at = now() where account_id = $1';
    await bench.db.pool.query(tenth, [accountId]);
    await untilTrue(async () => (await syncOf(accountId)).attempts === 10);
    expect((await syncOf(accountId)).pause).toBeGreaterThan(890);
    expect((await syncOf(accountId)).pause).toBeLessThanOrEqual(900);
    // Another one makes its account due at once, whatever pause it was in.
    bench.stripe.interfere(() => undefined);
    bench.stripe.put({ id: 'in_poison', object: 'invoice', customer, status: 'void' });
    await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer })));
    await untilTrue(async () => (await em().count(StripeEvent, { state: 'done' })) === 2);
    expect(await syncOf(accountId)).toEqual({ attempts: 0, pause: null, reason: null });
  });

  it('whose account fails as a whole waits as long, and is given up once it was tried long and often enough', async () => {
    const { accountId, customer } = await addCustomer(bench);
    bench.stripe.interfere(() => ({ kind: 'answer', status: 503, body: '{}' }));
    const old = await deliver(
      bench,
      'customer.subscription.created',
      bench.stripe.put(subscription({ customer })),
    );
    const fresh = await deliver(bench, 'customer.subscription.updated', {
      id: 'sub_1',
      object: 'subscription',
      customer,
    });
    const longAgo = new Date(NOW.getTime() - 7 * 3_600_000);
    await em().nativeUpdate(StripeEvent, { id: old }, { receivedAt: longAgo });
    await em().nativeUpdate(AccountSync, { accountId }, { attempts: 33 });
    startWorker();
    await untilTrue(async () => (await syncOf(accountId)).attempts === 34);
    expect((await syncOf(accountId)).pause).toBeGreaterThan(890);
    expect(await eventOf(old)).toMatchObject({ state: 'received', attempts: 0 });
    await bench.db.pool.query('update account_sync set due_at = now() where account_id = $1', [accountId]);
    await untilTrue(async () => (await syncOf(accountId)).attempts === 35);
    expect(await eventOf(old)).toMatchObject({ state: 'dead', error: expect.stringMatching(/^Stripe /) });
    // It has been here for a moment only.
    expect(await eventOf(fresh)).toMatchObject({ state: 'received' });
  });

  it('does not use up the time that Stripe has for the other events of its account', async () => {
    const { customer } = await addCustomer(bench);
    // It happened before the other one, and would be read first but for its failed attempt.
    const bad = await poison(customer, { created: NOW.getTime() / 1000 - 60 });
    await em().nativeUpdate(StripeEvent, { id: bad }, { attempts: 1 });
    const invoice = { id: 'in_good', object: 'invoice', customer, status: 'void' };
    await deliver(bench, 'invoice.paid', bench.stripe.put(invoice));
    const order: string[] = [];
    bench.stripe.interfere(({ path }) => {
      if (path.startsWith('/v1/invoices/')) order.push(path.slice('/v1/invoices/'.length));
      return undefined;
    });
    startWorker();
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
    startWorker();
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

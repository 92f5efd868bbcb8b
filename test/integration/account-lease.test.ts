import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Account, AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { claimOne } from '../../server/database/lease.ts';
import type { Series } from '../../server/database/recurring.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { readOurs } from '../../server/stripe/sync/ours.ts';
import { projected } from '../../server/stripe/sync/subscription/record-row.ts';
import { processAccount } from '../../server/stripe/sync/worker.ts';
import { processEvents, startProcessing } from '../support/processing.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
let other: Bench;
const workers: Series[] = [];
beforeEach(async () => {
  const opened = await openBench();
  // Patient, so that what hangs hangs until the test lets go.
  const gateway = connectStripe({
    secretKey: 'sk_test_patient',
    apiBase: opened.stripe.url,
    timeoutMs: 60_000,
  });
  bench = { ...opened, gateway };
  other = { ...bench, db: await bench.another() };
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.close();
  await bench.close();
});

const em = () => bench.db.orm.em.fork();
const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const syncOf = (accountId: string) => em().findOneOrFail(AccountSync, { accountId });
const eventOf = (id: string) => em().findOneOrFail(StripeEvent, id);

/** An account with a subscription that we know, and an event that says nothing new. */
async function subscriber() {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer }));
  await processEvents(bench, [await deliver(bench, 'customer.subscription.created', sub)]);
  const event = await deliver(bench, 'customer.subscription.updated', sub);
  return { accountId, customer, sub, event };
}

/**
 * The next list of subscriptions is answered as it is now, or with Stripe's word that our key is not its, when the test lets go;
 * `asked` once it is asked for.
 */
function holdBack({ isBarred = false } = {}) {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let calls = 0;
  bench.stripe.interfere(async ({ method, path }) => {
    if (method !== 'GET' || !path.startsWith('/v1/subscriptions') || calls++ > 0) return undefined;
    const customer = new URL(path, 'http://stripe.test').searchParams.get('customer');
    const data = structuredClone(
      bench.stripe.all('subscription').filter((one) => one['customer'] === customer),
    );
    await released;
    if (isBarred) return { kind: 'answer', status: 401, body: BARRED };
    return { kind: 'answer', status: 200, body: JSON.stringify({ object: 'list', data, has_more: false }) };
  });
  return { release: () => release(), asked: () => untilTrue(() => calls > 0) };
}

const BARRED = JSON.stringify({
  error: { type: 'invalid_request_error', message: 'Invalid API Key provided' },
});

/** A worker that takes the account, and never says again that it is at it. */
async function beginSlowly(accountId: string) {
  const claim = await claimOne(bench.db, 'account_sync', accountId);
  if (!claim) throw new Error('somebody has it');
  const { signal } = new AbortController();
  return processAccount(bench, { key: accountId, lease: claim.lease }, signal);
}

/** Its lease is over; nothing else tells. */
const letLeaseEnd = (accountId: string) =>
  bench.db.pool.query(
    "update account_sync set leased_until = now() - interval '1 second' where account_id = $1",
    [accountId],
  );

describe('whoever has lost the lease', () => {
  it('writes nothing of what it had read before, though the row is as it was', async () => {
    const { accountId, sub, event } = await subscriber();
    const held = holdBack();
    bench.stripe.change(sub.id, { status: 'past_due' });
    const slow = beginSlowly(accountId);
    await held.asked();
    // Meanwhile it is as we hold it, and another one looks: it finds nothing new.
    bench.stripe.change(sub.id, { status: 'active' });
    await letLeaseEnd(accountId);
    expect((await processEvents(other, [event])).size).toBe(0);
    held.release();
    await slow;
    expect(await rowOf(accountId)).toMatchObject({ status: 'active', version: 1 });
    // That of the first subscription, and none about what was read for another customer.
    expect(await em().count(AuditEntry, { accountId, action: 'subscription.status_changed' })).toBe(1);
    expect(await em().count(Email, { accountId, template: 'payment_failed' })).toBe(0);
    expect(await syncOf(accountId)).toMatchObject({ dueAt: null, lease: null, attempts: 0 });
    reached('a lease is lost between reading and writing');
  });

  it('takes back what it has written, where the lease is lost in the last moment', async () => {
    const { accountId, sub, event } = await subscriber();
    bench.stripe.change(sub.id, { status: 'past_due' });
    const blocker = await other.db.pool.connect();
    await blocker.query('begin');
    await blocker.query('select 1 from stripe_event where id = $1 for no key update', [event]);
    const slow = beginSlowly(accountId);
    // All but the events is written, and nobody sees it.
    await untilTrue(async () => {
      const { rows } = await bench.db.pool.query<{ n: number }>(
        "select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      return rows[0]?.n === 1;
    });
    await letLeaseEnd(accountId);
    const taken = await claimOne(other.db, 'account_sync', accountId);
    expect(taken).not.toBeNull();
    await blocker.query('rollback');
    blocker.release();
    await slow;
    expect(await rowOf(accountId)).toMatchObject({ status: 'active', version: 1 });
    expect(await eventOf(event)).toMatchObject({ state: 'received', attempts: 0 });
    expect(await syncOf(accountId)).toMatchObject({ lease: taken?.lease, done: 1, wanted: 2 });
    reached('a lease is lost in the middle of writing');
  });

  it('does nothing at Stripe any more', async () => {
    const { accountId, customer } = await subscriber();
    const second = bench.stripe.put(subscription({ customer }));
    const held = holdBack();
    const slow = beginSlowly(accountId);
    await held.asked();
    await letLeaseEnd(accountId);
    expect(await claimOne(other.db, 'account_sync', accountId)).not.toBeNull();
    held.release();
    await slow;
    expect(bench.stripe.calls.filter(({ method }) => method === 'DELETE')).toEqual([]);
    expect(bench.stripe.all('subscription').find(({ id }) => id === second.id)).toMatchObject({
      status: 'active',
    });
    reached('a lease is lost before something is done at Stripe');
  });
});

describe('the lease of an account', () => {
  it('stays with whoever works on it, however long Stripe takes', async () => {
    const { accountId, sub } = await subscriber();
    const held = holdBack();
    bench.stripe.change(sub.id, { status: 'past_due' });
    const before = bench.stripe.calls.length;
    for (const deps of [bench, other]) workers.push(startProcessing(deps));
    await held.asked();
    const first = (await syncOf(accountId)).lease;
    const untilMs = performance.now() + 4_000;
    // Twice as long as it lasts without a sign of life.
    await untilTrue(async () => performance.now() > untilMs);
    expect((await syncOf(accountId)).lease).toBe(first);
    held.release();
    await untilTrue(async () => (await syncOf(accountId)).dueAt === null);
    expect(
      bench.stripe.calls.slice(before).filter(({ path }) => path.startsWith('/v1/subscriptions')),
    ).toHaveLength(1);
    expect(await rowOf(accountId)).toMatchObject({ status: 'past_due', version: 2 });
    reached('Stripe takes longer than a lease lasts');
  });

  it('goes by one clock, whatever those of two workers say', async () => {
    const skewed = (ms: number) => ({ now: () => new Date(NOW.getTime() + ms) });
    const buyers = await Promise.all(Array.from({ length: 12 }, () => addCustomer(bench)));
    const ids: string[] = [];
    for (const { customer } of buyers)
      ids.push(
        await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer }))),
      );
    workers.push(startProcessing({ ...bench, clock: skewed(-5_000) }));
    workers.push(startProcessing({ ...other, clock: skewed(5_000) }));
    await untilTrue(async () => (await em().count(StripeEvent, { id: { $in: ids }, state: 'done' })) === 12);
    const looks = bench.stripe.calls.filter(({ path }) => path.startsWith('/v1/subscriptions'));
    expect(looks).toHaveLength(12);
    expect(await em().count(Subscription, { version: 1 })).toBe(12);
    expect(await em().count(AccountSync, { dueAt: null, attempts: 0 })).toBe(12);
  });
});

describe('a pass that fails as a whole', () => {
  const isDue = async (accountId: string) => {
    const text = 'select due_at <= now() as due from account_sync where account_id = $1';
    const { rows } = await bench.db.pool.query<{ due: boolean }>(text, [accountId]);
    return rows[0]?.due;
  };

  it('makes what was heard of meanwhile wait for no pause, and tells the workers', async () => {
    const { accountId, sub, event } = await subscriber();
    const held = holdBack({ isBarred: true });
    const slow = beginSlowly(accountId);
    await held.asked();
    const next = await deliver(bench, 'customer.subscription.updated', sub);
    const told: string[] = [];
    const listener = await bench.db.pool.connect();
    listener.on('notification', ({ payload }) => told.push(payload ?? ''));
    await listener.query('listen driftstack_due');
    held.release();
    await slow;
    const isDueNow = await isDue(accountId);
    if (isDueNow) await untilTrue(async () => told.includes('account'));
    listener.release(true);
    expect(isDueNow).toBe(true);
    expect(await syncOf(accountId)).toMatchObject({ wanted: 3, done: 1, lease: null, attempts: 1 });
    // What helped stands in the new one.
    expect((await processEvents(bench, [event, next])).size).toBe(0);
    expect(await syncOf(accountId)).toMatchObject({ wanted: 3, done: 3, attempts: 0, dueAt: null });
  });

  it('is repeated at once only as often as something new was heard of, and then after longer and longer', async () => {
    const { accountId, sub } = await subscriber();
    bench.stripe.interfere(({ path }) => {
      if (!path.startsWith('/v1/subscriptions')) return undefined;
      return { kind: 'answer', status: 401, body: BARRED };
    });
    // As after some failures, so that a slow machine is not slower than the pause.
    await em().nativeUpdate(AccountSync, { accountId }, { attempts: 6 });
    for (const attempts of [7, 8]) {
      await beginSlowly(accountId);
      expect(await syncOf(accountId)).toMatchObject({ lease: null, attempts });
      expect(await isDue(accountId)).toBe(false);
    }
    const { rows } = await bench.db.pool.query<{ seconds: number }>(
      'select extract(epoch from due_at - now())::float8 as seconds from account_sync where account_id = $1',
      [accountId],
    );
    // Two seconds, doubled for each of seven failures before it.
    expect(rows[0]?.seconds).toBeGreaterThan(128);
    expect(rows[0]?.seconds).toBeLessThanOrEqual(256);
    await deliver(bench, 'customer.subscription.updated', sub);
    expect(await isDue(accountId), 'what is heard of in the pause is looked at as well').toBe(true);
    await beginSlowly(accountId);
    expect(await isDue(accountId)).toBe(false);
    expect(await syncOf(accountId)).toMatchObject({ attempts: 9, done: 1, wanted: 3 });
  });
});

it('an account whose customer is another one by now is looked at again', async () => {
  const { accountId, sub } = await subscriber();
  const held = holdBack();
  bench.stripe.change(sub.id, { status: 'past_due' });
  const slow = beginSlowly(accountId);
  await held.asked();
  const next = bench.stripe.newId('cus');
  bench.stripe.put({ id: next, object: 'customer', metadata: {} });
  const bought = bench.stripe.put(
    subscription({ customer: next, lookup_key: 'driftstack_api_scale_monthly' }),
  );
  await em().nativeUpdate(Account, accountId, { stripeCustomerId: next });
  held.release();
  await slow;
  expect(await rowOf(accountId)).toMatchObject({ stripeSubscriptionId: bought.id, tier: 'api_scale' });
  reached('an account gets another customer while Stripe is read');
  // That of the first subscription, and none about what was read for another customer.
  expect(await em().count(AuditEntry, { accountId, action: 'subscription.status_changed' })).toBe(1);
});

it('our side is read as the entities have it, the events that failed before last', async () => {
  const { accountId, sub, event } = await subscriber();
  const second = await deliver(bench, 'invoice.paid', {
    id: 'in_1',
    object: 'invoice',
    customer: sub['customer'],
  });
  const ends = {
    endsAt: new Date('2026-06-01T00:00:00.123Z'),
    endedAt: null,
    pendingTier: 'api_scale' as const,
  };
  await em().nativeUpdate(Subscription, { accountId }, { ...ends, pendingChangesAt: NOW });
  await em().nativeUpdate(StripeEvent, { id: event }, { attempts: 1 });
  const { wanted, account, held, events } = await readOurs(bench.db, accountId, null);
  expect(wanted).toBe('3');
  const {
    id,
    stripeCustomerId,
    stripeEmail = null,
    createdAt,
  } = await em().findOneOrFail(Account, accountId);
  expect(account).toEqual({ id, stripeCustomerId, stripeEmail, createdAt });
  const row = await rowOf(accountId);
  expect(held).toEqual({ id: row?.id, version: row?.version, row: row && projected(row) });
  const stored = await em().find(StripeEvent, { state: 'received' }, { orderBy: { attempts: 'asc' } });
  expect(events).toEqual(
    stored.map(({ id, type, objectId, createdAt }) => ({ id, type, objectId, createdAt })),
  );
  expect(events.map(({ id }) => id)).toEqual([second, event]);
  expect((await readOurs(bench.db, accountId, [second])).events.map(({ id }) => id)).toEqual([second]);
  await expect(readOurs(bench.db, NOBODY, null)).rejects.toThrow('not in the database');
});

const NOBODY = '00000000-0000-7000-8000-000000000000';

import { Client, type PoolClient } from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Account, AccountSync } from '../../server/database/entities/account.ts';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { claimOne } from '../../server/database/lease.ts';
import type { EventType } from '../../server/stripe/events.ts';
import { processAccount } from '../../server/stripe/sync/worker.ts';
import { processEvents } from '../support/processing.ts';
import { PACK_LINES, type Thing } from '../support/scripted-stripe.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
const blockers: PoolClient[] = [];
beforeEach(async () => {
  bench = await openBench();
});
afterEach(async () => {
  for (const blocker of blockers.splice(0)) blocker.release(true);
  vi.restoreAllMocks();
  await bench.close();
});

const em = () => bench.db.orm.em.fork();
const unix = NOW.getTime() / 1000;

type Waiting = { readonly accountId: string; readonly customer: string; readonly event: string };

/** An account of which something was heard. */
async function toldOf(type: EventType, thing: (customer: string) => Thing): Promise<Waiting> {
  const { accountId, customer } = await addCustomer(bench);
  return { accountId, customer, event: await deliver(bench, type, bench.stripe.put(thing(customer))) };
}

/** An account whose first subscription we have just been told of. */
const subscriber = () => toldOf('customer.subscription.created', (customer) => subscription({ customer }));

/** Keeps a row of somebody else's from being changed, until what it answers is called. */
async function block(statement: string, id: string): Promise<() => Promise<void>> {
  const other = await bench.another();
  const blocker = await other.pool.connect();
  blockers.push(blocker);
  await blocker.query('begin');
  await blocker.query(statement, [id]);
  return async () => {
    await blocker.query('rollback');
  };
}
const blockEvent = ({ event }: Waiting) =>
  block('select 1 from stripe_event where id = $1 for no key update', event);

const waitingForLocks = async (): Promise<number> => {
  const { rows } = await bench.db.pool.query<{ n: number }>(
    "select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
  );
  return rows[0]?.n ?? 0;
};

const NEVER = new AbortController().signal;

/** Begins a pass; `deps` tells who works. */
async function begin(deps: Bench, accountId: string): Promise<{ ended: Promise<void> }> {
  const claim = await claimOne(deps.db, 'account_sync', accountId);
  if (!claim) throw new Error('somebody has it');
  return { ended: processAccount(deps, { key: accountId, lease: claim.lease }, NEVER) };
}

/** How many accounts each transaction of passes was begun for, one after the other. */
function countGroups(): number[] {
  const groups: number[] = [];
  const query: unknown = Client.prototype.query;
  if (typeof query !== 'function') throw new Error('pg has no query');
  vi.spyOn(Client.prototype, 'query').mockImplementation(function (this: Client, ...args: unknown[]) {
    const [named] = args;
    if (isNamed(named) && named.name.startsWith('lock-leased-accounts'))
      groups.push(named.values[0]?.length ?? 0);
    return Reflect.apply(query, this, args);
  });
  return groups;
}

function isNamed(query: unknown): query is { name: string; values: readonly (readonly unknown[])[] } {
  return typeof query === 'object' && query !== null && 'name' in query && typeof query.name === 'string';
}

const nothing = async (): Promise<void> => undefined;

/** `groups`: how many accounts each transaction was begun for; the one before theirs is over once there is one. */
type Steps = {
  readonly before?: () => Promise<void>;
  readonly meanwhile?: (groups: readonly number[]) => Promise<void>;
};

/**
 * Has passes over these accounts be ready while that of another account is being written, so that they are written
 * together. `before` comes when all of them are ready, `meanwhile` when their transaction may begin. Answers how many
 * accounts each transaction was begun for, from theirs on.
 */
async function together(
  members: readonly Waiting[],
  { before = nothing, meanwhile = nothing }: Steps = {},
): Promise<number[]> {
  const first = await subscriber();
  const release = await blockEvent(first);
  const ready = new Set<string>();
  const turnOn: Bench['db']['turnOn'] = async (accountId, work) => {
    const turn = bench.db.turnOn(accountId, work);
    ready.add(accountId);
    return await turn;
  };
  const deps = { ...bench, db: { ...bench.db, turnOn } };
  const writing = await begin(deps, first.accountId);
  await untilTrue(async () => (await waitingForLocks()) === 1);
  const groups = countGroups();
  const going: Promise<void>[] = [];
  for (const { accountId } of members) going.push((await begin(deps, accountId)).ended);
  await untilTrue(() => members.every(({ accountId }) => ready.has(accountId)));
  expect(groups).toEqual([]);
  await before();
  await release();
  await Promise.all([meanwhile(groups), writing.ended, ...going]);
  return groups;
}

const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const eventOf = (id: string) => em().findOneOrFail(StripeEvent, id);
const syncOf = (accountId: string) => em().findOneOrFail(AccountSync, { accountId });
const count = async (accountId: string, what: string) =>
  (await em().count(AuditEntry, { accountId, action: what })) +
  (await em().count(Email, { accountId, template: what }));

/** Told once, and over. */
async function expectWritten({ accountId, event }: Waiting): Promise<void> {
  expect(await rowOf(accountId)).toMatchObject({ status: 'active', version: 1 });
  expect(await count(accountId, 'subscription.tier_changed')).toBe(1);
  expect(await count(accountId, 'subscription_started')).toBe(1);
  expect(await eventOf(event)).toMatchObject({ state: 'done' });
  expect(await syncOf(accountId)).toMatchObject({ done: 1, lease: null, dueAt: null, attempts: 0 });
}

async function expectUntouched({ accountId, event }: Waiting): Promise<void> {
  expect(await rowOf(accountId)).toBeNull();
  expect(await em().count(AuditEntry, { accountId })).toBe(0);
  expect(await em().count(Email, { accountId })).toBe(0);
  expect(await eventOf(event)).toMatchObject({ state: 'received', attempts: 0 });
}

const giveAway = async (accountId: string): Promise<string> => {
  await bench.db.pool.query('update account_sync set leased_until = now() where account_id = $1', [
    accountId,
  ]);
  const claim = await claimOne(bench.db, 'account_sync', accountId);
  return claim?.lease ?? '';
};

describe('passes that are ready while another one is written', () => {
  it('share a transaction, and each account has what is its own', async () => {
    const members = [await subscriber(), await subscriber(), await subscriber()];
    expect(await together(members)).toEqual([3]);
    for (const member of members) await expectWritten(member);
  });

  it('lose nothing by one whose account is another one’s when it is their turn', async () => {
    const [one, lost, other] = [await subscriber(), await subscriber(), await subscriber()];
    let taken = '';
    const before = async () => {
      taken = await giveAway(lost.accountId);
    };
    expect(await together([one, lost, other], { before })).toEqual([3, 1]);
    for (const member of [one, other]) await expectWritten(member);
    await expectUntouched(lost);
    expect(await syncOf(lost.accountId)).toMatchObject({ lease: taken, done: 0 });
  });

  it('lose nothing by one whose account is lost in the last moment', async () => {
    const [one, lost, other] = [await subscriber(), await subscriber(), await subscriber()];
    const release = await blockEvent(other);
    let taken = '';
    const meanwhile = async (groups: readonly number[]) => {
      // All that comes before the events is written for all of them, and nobody sees it.
      await untilTrue(async () => groups.length === 1 && (await waitingForLocks()) === 1);
      taken = await giveAway(lost.accountId);
      await release();
    };
    expect(await together([one, lost, other], { meanwhile })).toEqual([3, 1, 1, 1]);
    for (const member of [one, other]) await expectWritten(member);
    await expectUntouched(lost);
    expect(await syncOf(lost.accountId)).toMatchObject({ lease: taken, done: 0 });
  });

  it('lose nothing by one of which the database refuses what is to be written', async () => {
    const [one, other] = [await subscriber(), await subscriber()];
    // A NUL is refused by jsonb: it stands for whatever we forgot.
    const odd = await toldOf('invoice.paid', (customer) => ({
      ...{ id: bench.stripe.newId('in'), object: 'invoice', customer, status: 'paid', number: 'A\u0000B' },
      ...{ currency: 'usd', amount_paid: 1900, amount_remaining: 0, created: unix, attempt_count: 1 },
      ...{ parent: null, status_transitions: { paid_at: unix, finalized_at: unix } },
      lines: { object: 'list', has_more: false, data: [] },
    }));
    const groups = await together([one, odd, other]);
    expect(groups.slice(0, 4)).toEqual([3, 1, 1, 1]);
    for (const member of [one, other]) await expectWritten(member);
    expect(await eventOf(odd.event)).toMatchObject({
      ...{ state: 'received', attempts: 1, error: 'The database refused it: 22P05' },
    });
    expect(await syncOf(odd.accountId)).toMatchObject({ lease: null, attempts: 1 });
  });

  it('are begun again once without those that want to know more of Stripe', async () => {
    const [one, other] = [await subscriber(), await subscriber()];
    const twice = [await secondPack(), await secondPack()];
    const groups = await together([one, ...twice, other]);
    // The second packs come again when Stripe has given back what they cost.
    expect(groups.slice(0, 2)).toEqual([4, 2]);
    for (const member of [one, other]) await expectWritten(member);
    for (const { accountId, event } of twice) {
      expect(await em().count(TrialPack, { accountId })).toBe(1);
      expect(await count(accountId, 'trial_pack.duplicate_refunded')).toBe(1);
      expect(await count(accountId, 'duplicate_purchase_refunded')).toBe(1);
      expect(await eventOf(event)).toMatchObject({ state: 'done' });
    }
    expect(bench.stripe.all('refund')).toHaveLength(2);
  });

  /** An account that has its pack, and has paid for another one. */
  async function secondPack(): Promise<Waiting> {
    const first = await toldOf('checkout.session.completed', paidSession);
    await processEvents(bench, [first.event]);
    const session = bench.stripe.put(paidSession(first.customer));
    return { ...first, event: await deliver(bench, 'checkout.session.completed', session) };
  }

  function paidSession(customer: string): Thing {
    const charge = { id: bench.stripe.newId('ch'), object: 'charge', created: unix, currency: 'usd' };
    const { id } = bench.stripe.put({
      ...{ id: bench.stripe.newId('pi'), object: 'payment_intent', status: 'succeeded', customer },
      latest_charge: { ...charge, amount: 299, amount_refunded: 0 },
    });
    return {
      ...{
        id: bench.stripe.newId('cs_test'),
        object: 'checkout.session',
        mode: 'payment',
        status: 'complete',
      },
      ...{ payment_link: 'plink_1', invoice: null, metadata: {}, customer, client_reference_id: null },
      ...{ created: unix, currency: 'usd', amount_total: 299, line_items: PACK_LINES },
      ...{ payment_status: 'paid', payment_intent: id },
    };
  }

  it('do not wait for one whose account somebody else has locked', async () => {
    const [one, busy, other] = [await subscriber(), await subscriber(), await subscriber()];
    const release = await block('select 1 from account where id = $1 for no key update', busy.accountId);
    const meanwhile = async () => {
      await untilTrue(async () => (await syncOf(one.accountId)).lease === null);
      for (const member of [one, other]) await expectWritten(member);
      await expectUntouched(busy);
      await release();
    };
    expect(await together([one, busy, other], { meanwhile })).toEqual([3, 1]);
    await expectWritten(busy);
  });

  it('are each written alone where the connection of all of them is cut', async () => {
    const members = [await subscriber(), await subscriber(), await subscriber()];
    const [one] = members;
    if (!one) throw new Error('there is nobody');
    const release = await blockEvent(one);
    const meanwhile = async (groups: readonly number[]) => {
      await untilTrue(async () => groups.length === 1 && (await waitingForLocks()) === 1);
      for (const member of members) await expectUntouched(member);
      await bench.db.pool.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      await release();
    };
    expect(await together(members, { meanwhile })).toEqual([3, 1, 1, 1]);
    for (const member of members) await expectWritten(member);
  });

  it('of two processes that each hold what the other wants neither wait in a circle, nor write twice', async () => {
    const [one, two] = [await subscriber(), await subscriber()];
    const release = await blockEvent(two);
    const other: Bench = { ...bench, db: await bench.another() };
    const later: Promise<void>[] = [];
    const meanwhile = async (groups: readonly number[]) => {
      await untilTrue(async () => groups.length === 1 && (await waitingForLocks()) === 1);
      // The first process is slow: somebody else has both accounts by now, in the other order.
      for (const { accountId } of [two, one]) {
        await bench.db.pool.query('update account_sync set leased_until = now() where account_id = $1', [
          accountId,
        ]);
        later.push((await begin(other, accountId)).ended);
      }
      await untilTrue(async () => (await waitingForLocks()) === 3);
      await release();
    };
    await together([one, two], { meanwhile });
    await Promise.all(later);
    for (const member of [one, two]) await expectWritten(member);
  });
});

it('an address that two of them want at once becomes that of one', async () => {
  const changed = (customer: string): Thing => ({
    ...{ id: customer, object: 'customer', email: 'new@example.test', deleted: undefined },
  });
  const members = [await toldOf('customer.updated', changed), await toldOf('customer.updated', changed)];
  expect(await together(members)).toEqual([2]);
  expect(await em().count(Account, { email: 'new@example.test' })).toBe(1);
  const entries = await em().find(AuditEntry, { accountId: { $in: members.map((one) => one.accountId) } });
  expect(entries.map(({ action }) => action).sort()).toEqual([
    'account.email_change_refused',
    'account.email_changed',
  ]);
});

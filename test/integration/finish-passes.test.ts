import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Account, AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { claimOne } from '../../server/database/lease.ts';
import { LOCK_LEASED, LOCK_LEASED_AND_FREE, lockLeasedAccounts } from '../../server/database/locks.ts';
import type { Statement } from '../../server/database/statement.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { type End, FINISH, finishAlone, finishPasses } from '../../server/stripe/sync/finish-passes.ts';
import { READ_OURS } from '../../server/stripe/sync/ours.ts';
import { COLUMNS, columnsOf, heldOf, type JsonRow } from '../../server/stripe/sync/subscription/columns.ts';
import type { SubscriptionRow } from '../../server/stripe/sync/subscription/project.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await openBench();
});
afterEach(() => bench.close());

const em = () => bench.db.orm.em.fork();
const syncOf = (accountId: string) => em().findOneOrFail(AccountSync, { accountId });

const ROW: SubscriptionRow = {
  stripeSubscriptionId: 'sub_1',
  tier: 'api_scale',
  pending: { tier: 'api_builder', billingPeriod: 'annual', changesAt: new Date('2026-07-01T00:00:00.001Z') },
  status: 'past_due',
  billingPeriod: 'monthly',
  currentPeriodStart: new Date('2026-06-01T00:00:00.120Z'),
  currentPeriodEnd: new Date('2026-07-01T00:00:00Z'),
  endsAt: new Date('2026-07-02T03:04:05.678Z'),
  endedAt: null,
  entitled: true,
};

/** An account that waits with one event, under a lease of this process. */
async function leased(of?: Awaited<ReturnType<typeof addCustomer>>) {
  const { accountId, customer } = of ?? (await addCustomer(bench));
  const event = await deliver(
    bench,
    'customer.subscription.updated',
    bench.stripe.put(subscription({ customer })),
  );
  const claim = await claimOne(bench.db, 'account_sync', accountId);
  if (!claim) throw new Error('somebody has it');
  return { accountId, lease: claim.lease, event };
}

async function isWaitedForALock(): Promise<boolean> {
  const { rows } = await bench.db.pool.query<{ n: number }>(
    "select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
  );
  return rows[0]?.n === 1;
}

type Held = Awaited<ReturnType<typeof leased>>;
const endOf = ({ accountId, lease }: Held, more: Partial<End> = {}): End => ({
  ...{ accountId, lease, wanted: '1', failed: null },
  ...more,
});
const written = (accountId: string, row: SubscriptionRow, version: number) =>
  columnsOf(row, { id: uuidv7(NOW), accountId, version, updatedAt: NOW });

describe('the row of a subscription', () => {
  it('names every column of the entity, and its type', () => {
    const { props } = bench.db.orm.getMetadata().getByClassName(Subscription.meta.className);
    const columns = new Map<string, string>();
    for (const {
      fieldNames: [name = ''],
      columnTypes: [type = ''],
    } of props)
      columns.set(name, type.replace(/\(\d\)$/, '').replace(/^varchar.*/, 'text'));
    expect(new Map(Object.entries(COLUMNS))).toEqual(columns);
  });

  it.each([
    ['with all of it', ROW],
    ['with as little as it can have', { ...ROW, pending: null, endsAt: null, entitled: false }],
    ['over', { ...ROW, pending: null, endsAt: null, endedAt: NOW, status: 'canceled' as const }],
  ])('is read as it was written, %s', async (_, row) => {
    const { accountId } = await addCustomer(bench);
    const columns = written(accountId, row, 3);
    await bench.db.transaction((tx) => finishPasses(tx, { rows: [columns], done: [], at: NOW, ends: [] }));
    const { rows } = await bench.db.pool.query<{ row: JsonRow }>(
      'select to_jsonb(s) as row from subscription s',
    );
    expect(rows.map((one) => heldOf(one.row))).toEqual([{ id: columns.id, version: 3, row }]);
    const entity = await em().findOneOrFail(Subscription, { accountId });
    expect(entity).toMatchObject({ cancelAtPeriodEnd: row.endsAt !== null, updatedAt: NOW, version: 3 });
    expect(entity.currentPeriodStart).toEqual(row.currentPeriodStart);
  });

  it('takes the place of the one before', async () => {
    const { accountId } = await addCustomer(bench);
    const first = written(accountId, ROW, 1);
    const second = { ...columnsOf({ ...ROW, tier: 'api_starter' }, { ...names(first), version: 2 }) };
    for (const row of [first, second])
      await bench.db.transaction((tx) => finishPasses(tx, { rows: [row], done: [], at: NOW, ends: [] }));
    expect(await em().find(Subscription, { accountId })).toMatchObject([
      { id: first.id, tier: 'api_starter', version: 2 },
    ]);
  });

  const names = ({ id, account_id: accountId }: ReturnType<typeof written>) => ({
    ...{ id, accountId, updatedAt: NOW },
  });
});

describe('the end of several passes', () => {
  it('is written for all of them: done, due again where more was heard, later where something failed', async () => {
    const [done, again, failed] = [await leased(), await leased(), await leased()];
    // Heard of after our side was read.
    await bench.db.pool.query('update account_sync set wanted = 2 where account_id = $1', [again.accountId]);
    const ends = [endOf(failed, { failed: 'Stripe does not find in_1' }), endOf(done), endOf(again)];
    const finished = await bench.db.transaction((tx) =>
      finishPasses(tx, { rows: [], done: [done.event, again.event], at: NOW, ends }),
    );
    expect(finished).toEqual(new Set(ends.map(({ accountId }) => accountId)));
    expect(await syncOf(done.accountId)).toMatchObject({ done: 1, lease: null, dueAt: null, reason: null });
    const { dueAt, ...sync } = await syncOf(again.accountId);
    expect(sync).toMatchObject({ wanted: 2, done: 1, lease: null, attempts: 0 });
    expect(dueAt).not.toBeNull();
    const late = await syncOf(failed.accountId);
    expect(late).toMatchObject({ lease: null, attempts: 1, reason: 'Stripe does not find in_1' });
    const pauseMs = (late.dueAt?.getTime() ?? 0) - (dueAt?.getTime() ?? 0);
    // Both by the clock of the database, and within one statement of it.
    expect(pauseMs).toBe(2_000);
    const events = await em().find(StripeEvent, {}, { orderBy: { id: 'asc' } });
    expect(new Map(events.map(({ id, state }) => [id, state]))).toEqual(
      new Map([
        [done.event, 'done'],
        [again.event, 'done'],
        [failed.event, 'received'],
      ]),
    );
  });

  it('leaves out the account that is somebody else’s, and answers which were not', async () => {
    const [mine, lost] = [await leased(), await leased()];
    await bench.db.pool.query(
      "update account_sync set lease = $2, leased_until = now() + interval '1 minute' where account_id = $1",
      [lost.accountId, uuidv7(NOW)],
    );
    const ends = [endOf(mine), endOf(lost)];
    const finished = await bench.db.transaction((tx) =>
      finishPasses(tx, { rows: [], done: [], at: NOW, ends }),
    );
    expect(finished).toEqual(new Set([mine.accountId]));
    expect(await finishAlone(bench.db, endOf(lost))).toBe(false);
    expect(await syncOf(lost.accountId)).toMatchObject({ done: 0 });
    expect((await syncOf(lost.accountId)).lease).not.toBeNull();
  });

  it('locks accounts in the order of their ids, as whoever stores events does', async () => {
    const [low, high] = [await addCustomer(bench), await addCustomer(bench)].sort((one, other) =>
      one.accountId < other.accountId ? -1 : 1,
    );
    if (!low || !high) throw new Error('there are two');
    // The later one has its row first, so that it is found first.
    const late = await leased(high);
    const early = await leased(low);
    const storing = await bench.db.pool.connect();
    await storing.query('begin');
    await storing.query('select from account_sync where account_id = $1 for no key update', [low.accountId]);
    const ending = bench.db.transaction((tx) =>
      finishPasses(tx, { rows: [], done: [], at: NOW, ends: [endOf(late), endOf(early)] }),
    );
    await untilTrue(isWaitedForALock);
    const { rows: free } = await storing.query<object>(
      'select from account_sync where account_id = $1 for no key update skip locked',
      [high.accountId],
    );
    await storing.query('commit');
    storing.release();
    expect(free).toHaveLength(1);
    expect((await ending).size).toBe(2);
  });

  it('holds no account, and so nobody who stores an event, while it waits for an event of it', async () => {
    const held = await leased();
    const busy = await bench.db.pool.connect();
    await busy.query('begin');
    await busy.query('select from stripe_event where id = $1 for no key update', [held.event]);
    const ending = bench.db.transaction((tx) =>
      finishPasses(tx, { rows: [], done: [held.event], at: NOW, ends: [endOf(held)] }),
    );
    await untilTrue(isWaitedForALock);
    const { rows: free } = await busy.query<object>(
      'select from account_sync where account_id = $1 for no key update skip locked',
      [held.accountId],
    );
    await busy.query('commit');
    busy.release();
    expect(free).toHaveLength(1);
    expect((await ending).size).toBe(1);
  });

  it('sees what is heard while it waits for the account, and tells of it', async () => {
    const held = await leased();
    const listener = await bench.db.pool.connect();
    const told: (string | undefined)[] = [];
    listener.on('notification', ({ payload }) => told.push(payload));
    await listener.query('listen driftstack_due');
    // As whoever stores an event, before its commit.
    const storing = await bench.db.pool.connect();
    await storing.query('begin');
    await storing.query('update account_sync set wanted = wanted + 1 where account_id = $1', [
      held.accountId,
    ]);
    const ending = finishAlone(bench.db, endOf(held));
    await untilTrue(isWaitedForALock);
    await storing.query('commit');
    storing.release();
    expect(await ending).toBe(true);
    const sync = await syncOf(held.accountId);
    expect(sync).toMatchObject({ wanted: 2, done: 1, lease: null });
    expect(sync.dueAt).not.toBeNull();
    await listener.query('select 1');
    expect(told).toContain('account');
    listener.release(true);
  });
});

describe('leased accounts', () => {
  it('are locked and read, each under its own lease', async () => {
    const [one, other] = [await leased(), await leased()];
    const { accountId } = one;
    await bench.db.transaction((tx) =>
      finishPasses(tx, { rows: [written(accountId, ROW, 7)], done: [], at: NOW, ends: [] }),
    );
    const stripeEmail = 'there@example.test';
    await em().nativeUpdate(Account, { id: accountId }, { stripeEmail, auditPosition: 4 });
    // Each names the lease of the other: neither is had.
    const swapped = [
      { accountId, lease: other.lease },
      { accountId: other.accountId, lease: one.lease },
    ];
    await bench.db.transaction(async (tx) => {
      expect(await lockLeasedAccounts(tx, swapped, { waits: true })).toEqual(new Map());
      const locked = await lockLeasedAccounts(tx, [one, other], { waits: true });
      const { id, email, stripeCustomerId } = await em().findOneOrFail(Account, accountId);
      expect(locked.get(accountId)).toEqual({
        account: { id, email, stripeCustomerId, stripeEmail, stripeCustomerGeneration: 0, auditPosition: 4 },
        heldVersion: 7,
      });
      expect(locked.get(other.accountId)).toMatchObject({ heldVersion: null });
    });
  });

  it('are passed over where they are locked, if nobody is to wait for them', async () => {
    const [one, other] = [await leased(), await leased()];
    await bench.db.transaction(async (tx) => {
      await lockLeasedAccounts(tx, [one], { waits: true });
      const free = await bench.another();
      const locked = await free.transaction((its) => lockLeasedAccounts(its, [one, other], { waits: false }));
      expect([...locked.keys()]).toEqual([other.accountId]);
    });
  });
});

describe('the statements', () => {
  it.each([READ_OURS, LOCK_LEASED, LOCK_LEASED_AND_FREE, FINISH])(
    '$name has one plan, by indexes alone',
    async ({ text }) => {
      const found = await planOf({ name: '', text });
      expect(found.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
      expect(found.filter((node) => node['Index Name']).length).toBeGreaterThan(1);
    },
  );

  type Node = { 'Node Type': string; 'Index Name'?: string; Plans?: Node[] };

  /** As it is made once for all calls. */
  async function planOf({ text }: Statement): Promise<Node[]> {
    const client = await bench.db.pool.connect();
    try {
      await client.query('begin');
      await client.query('set local enable_seqscan = off');
      const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
        `explain (format json, generic_plan) ${text}`,
      );
      const nodes = rows.flatMap((row) => row['QUERY PLAN'].map(({ Plan }) => Plan));
      for (const node of nodes) nodes.push(...(node.Plans ?? []));
      return nodes;
    } finally {
      await client.query('rollback');
      client.release();
    }
  }
});

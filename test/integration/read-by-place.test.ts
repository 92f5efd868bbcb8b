import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { authenticate, READ_BILLING, READ_CALLER, readBilling } from '../../server/billing/caller.ts';
import { issueKey } from '../../server/billing/keys.ts';
import { billingRow } from '../../server/billing/state.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { isDatabaseError } from '../../server/database/origin.ts';
import { readByPlace } from '../../server/database/read-by-place.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  // One connection, so that all statements meet on it.
  db = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'read-by-place' });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  );

describe('a statement read by place', () => {
  const ECHO = { name: 'echo', text: 'select $1::text, length($2::bytea), null, true' };
  const COUNT = { name: 'count', text: 'select n from generate_series(1, $1::int) n' };
  const FAIL = { name: 'fail', text: 'select 1 / ($1::int - 1)' };

  it('answers texts and nulls in the order of its columns, and each of its rows', async () => {
    const values = ["it's ü", Buffer.from([0, 255])];
    expect(await readByPlace(db.pool, ECHO, values)).toEqual([["it's ü", '2', null, 't']]);
    expect(await readByPlace(db.pool, COUNT, ['3'])).toEqual([['1'], ['2'], ['3']]);
    expect(await readByPlace(db.pool, COUNT, ['0'])).toEqual([]);
  });

  it('is prepared once by a connection, and beside others', async () => {
    for (let n = 1; n <= 3; n += 1) {
      expect(await readByPlace(db.pool, COUNT, [String(n)])).toHaveLength(n);
      expect(await readByPlace(db.pool, ECHO, [String(n), Buffer.alloc(n)])).toEqual([
        [String(n), String(n), null, 't'],
      ]);
      expect((await db.pool.query({ name: 'plain', text: 'select $1::int as n', values: [n] })).rows).toEqual(
        [{ n }],
      );
    }
    const { rows } = await db.pool.query<{ name: string; ran: number }>(
      `select name, (generic_plans + custom_plans)::int as ran from pg_prepared_statements
        where name in ('count', 'echo', 'plain') order by name`,
    );
    expect(rows.map(({ name }) => name)).toEqual(['count', 'echo', 'plain']);
    expect(Math.min(...rows.map(({ ran }) => ran))).toBeGreaterThanOrEqual(3);
  });

  it('that fails says what the database said, and the next one goes on', async () => {
    expect(await readByPlace(db.pool, FAIL, ['2'])).toEqual([['1']]);
    const error = await failure(readByPlace(db.pool, FAIL, ['1']));
    expect(error).toMatchObject({ code: '22012' });
    expect(isDatabaseError(error)).toBe(true);
    const misspelt = { name: 'misspelt', text: 'select nothing_of_the_kind' };
    for (let n = 0; n < 2; n += 1)
      expect(await failure(readByPlace(db.pool, misspelt, []))).toMatchObject({ code: '42703' });
    expect(await readByPlace(db.pool, FAIL, ['2'])).toEqual([['1']]);
  });

  it('whose connection is cut off fails, and the next one has another', async () => {
    const other = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'other' });
    try {
      const [[pid = ''] = []] = await readByPlace(
        db.pool,
        { name: 'pid', text: 'select pg_backend_pid()' },
        [],
      );
      const sleeping = failure(readByPlace(db.pool, { name: 'sleep', text: 'select pg_sleep(60)' }, []));
      await expect
        .poll(
          async () =>
            (
              await other.pool.query('select from pg_stat_activity where pid = $1 and query like $2', [
                pid,
                '%pg_sleep%',
              ])
            ).rowCount,
        )
        .toBe(1);
      await other.pool.query('select pg_terminate_backend($1)', [pid]);
      const error = await sleeping;
      expect(error).toBeInstanceOf(Error);
      expect(isDatabaseError(error)).toBe(true);
      expect(await readByPlace(db.pool, COUNT, ['1'])).toEqual([['1']]);
    } finally {
      await other.close();
    }
  });
});

describe('the statement that finds a caller', () => {
  const now = new Date('2026-05-10T12:00:00.500Z');
  /** No two columns alike, so that none passes for another. */
  const HELD = {
    tier: 'team_manual',
    status: 'past_due',
    billingPeriod: 'annual',
    currentPeriodStart: new Date('2026-01-02T03:04:05.678Z'),
    currentPeriodEnd: new Date('2027-01-02T03:04:06.789Z'),
  } as const;

  async function openAccount(
    email: string,
    {
      cancels,
      entitled,
    }: { cancels: boolean; entitled: boolean } | { cancels?: never; entitled?: never } = {},
  ) {
    return await db.transaction(async (tx) => {
      const { id: accountId } = await createAccount(tx, { email, now });
      const scopes = ['read:billing', 'read:audit'] as const;
      const key = await issueKey(tx, { accountId, scopes, name: 'k', now });
      if (cancels === undefined) return { accountId, key, sold: null };
      const sold = { subscription: uuidv7(now), pack: uuidv7(now) };
      await tx.insert(Subscription, {
        ...HELD,
        id: sold.subscription,
        accountId,
        stripeSubscriptionId: `sub_${email}`,
        cancelAtPeriodEnd: cancels,
        endsAt: cancels ? now : null,
        version: 9,
        entitled,
        updatedAt: now,
      });
      await tx.insert(TrialPack, {
        id: sold.pack,
        accountId,
        stripeSessionId: `cs_${email}`,
        paymentIntent: `pi_${email}`,
        state: 'suspended',
        redeemedAt: now,
        expiresAt: new Date('2026-05-24T12:00:00.250Z'),
        grantedSeconds: 59_800,
        remainingSeconds: 12_345,
        version: 8,
      });
      return { accountId, key, sold };
    });
  }

  it.each([
    { cancels: true, entitled: false },
    { cancels: false, entitled: true },
  ])('reads each column to where it belongs: %o', async (flags) => {
    const { accountId, key, sold } = await openAccount(`a-${flags.cancels}@example.com`, flags);
    const row = {
      subscription: {
        id: sold?.subscription,
        tier: HELD.tier,
        status: HELD.status,
        billingPeriod: HELD.billingPeriod,
        periodStartMs: HELD.currentPeriodStart.getTime(),
        periodEndMs: HELD.currentPeriodEnd.getTime(),
        cancelAtPeriodEnd: flags.cancels,
        isEntitled: flags.entitled,
      },
      trialPack: {
        state: 'suspended',
        expiresMs: new Date('2026-05-24T12:00:00.250Z').getTime(),
        remainingSeconds: 12_345,
      },
    };
    const caller = await authenticate(db, [`Bearer ${key.key}`], now);
    expect(caller).toMatchObject({
      accountId,
      keyId: key.id,
      scopes: ['read:billing', 'read:audit'],
      tier: flags.entitled ? HELD.tier : 'free',
    });
    expect(billingRow(caller.bought)).toEqual(row);
    expect(await readBilling(db, accountId)).toEqual(row);
  });

  it('reads an account that has bought nothing', async () => {
    const { accountId, key } = await openAccount('nothing@example.com');
    const caller = await authenticate(db, [`Bearer ${key.key}`], now);
    expect(caller.tier).toBe('free');
    const nothing = { subscription: null, trialPack: null };
    expect(billingRow(caller.bought)).toEqual(nothing);
    expect(await readBilling(db, accountId)).toEqual(nothing);
  });

  it('keeps nobody out for a tier of a newer version, and makes nothing of it', async () => {
    const { accountId, key } = await openAccount('newer@example.com', { cancels: false, entitled: true });
    await db.pool.query("update subscription set tier = 'of_tomorrow' where account_id = $1", [accountId]);
    const caller = await authenticate(db, [`Bearer ${key.key}`], now);
    expect(caller).toMatchObject({ accountId, tier: 'free' });
    expect(() => billingRow(caller.bought)).toThrow('of_tomorrow');
  });

  type Node = { 'Node Type': string; 'Index Name'?: string; Plans?: Node[] };
  it.each([
    ['by key', READ_CALLER, 'api_key_hash_unique'],
    ['by account', READ_BILLING, 'account_pkey'],
  ])(
    'goes %s and by the unique indexes of what was bought, whatever the tables hold',
    async (_by, { text }, first) => {
      const client = await db.pool.connect();
      try {
        await client.query('begin');
        await client.query('set local enable_seqscan = off');
        const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
          `explain (generic_plan, format json) ${text}`,
        );
        const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];
        const nodes = (rows[0]?.['QUERY PLAN'] ?? []).flatMap(({ Plan }) => all(Plan));
        expect(nodes.flatMap((node) => node['Index Name'] ?? []).sort()).toEqual(
          [first, 'subscription_account_id_unique', 'trial_pack_account_id_unique'].sort(),
        );
        expect(nodes.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
      } finally {
        await client.query('rollback');
        client.release();
      }
    },
  );
});

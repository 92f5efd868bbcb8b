import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIGRATIONS } from '../../migrations/list.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { CheckoutAttempt, TrialPack } from '../../server/database/entities/billing.ts';
import { migrate, pendingMigrations } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let empty: TestDatabase;
let db: Database;

beforeAll(async () => {
  empty = await createTestDatabase('template0');
  db = await connectDatabase({ url: empty.url, poolMax: 4, applicationName: 'migrations-test' });
});

afterAll(async () => {
  await db?.close();
  await empty?.drop();
});

test('an empty database is told what is missing, is not touched by asking, and is complete after migrating', async () => {
  expect(await pendingMigrations(db)).toEqual([...MIGRATIONS.map(({ name }) => `migration ${name}`)]);
  const relations = await db.pool.query(
    "select 1 from pg_class join pg_namespace n on n.oid = relnamespace where n.nspname = 'public'",
  );
  expect(relations.rowCount).toBe(0);

  // Several processes start at once after a deployment.
  await Promise.all([migrate(db), migrate(db), migrate(db)]);
  expect(await pendingMigrations(db)).toEqual([]);

  await migrate(db);
  expect(await pendingMigrations(db)).toEqual([]);
});

test('the migrations make exactly the tables that the entities describe', async () => {
  await migrate(db);
  expect(await db.orm.schema.getUpdateSchemaSQL({ wrap: false })).toBe('');
  expect(await db.orm.migrator.checkSchema()).toBe(false);
});

test('a table that somebody altered is noticed by the drift check', async () => {
  const other = await createTestDatabase();
  const altered = await connectDatabase({ url: other.url, poolMax: 2, applicationName: 'migrations-test' });
  try {
    expect(await altered.orm.migrator.checkSchema()).toBe(false);
    await altered.pool.query('drop trigger append_only on audit_entry');
    expect(await altered.orm.migrator.checkSchema()).toBe(true);
  } finally {
    await altered.close();
    await other.drop();
  }
});

const now = new Date('2026-05-01T00:00:00Z');

async function account(): Promise<string> {
  const id = uuidv7(now);
  await db.transaction(async (tx) => {
    tx.create(Account, { id, email: `${id}@example.com`, createdAt: now });
  });
  return id;
}

test('an account has at most one attempt of a kind that can still be paid', async () => {
  await migrate(db);
  const accountId = await account();
  const attempt = (kind: CheckoutAttempt['kind'], state: CheckoutAttempt['state']) =>
    db.transaction(async (tx) => {
      tx.create(CheckoutAttempt, {
        id: uuidv7(now),
        accountId,
        kind,
        state,
        params: { a: 1 },
        paramsHash: Buffer.from('hash'),
        expiresAt: now,
        createdAt: now,
        updatedAt: now,
      });
    });
  await attempt('subscription', 'expired');
  await attempt('subscription', 'completed');
  await attempt('subscription', 'creating');
  await attempt('trial_pack', 'awaiting_payment');
  for (const state of ['creating', 'open', 'closing', 'awaiting_payment'] as const) {
    await expect(attempt('subscription', state), state).rejects.toThrow('checkout_attempt_one_open');
    await expect(attempt('trial_pack', state), state).rejects.toThrow('checkout_attempt_one_open');
  }
  await attempt('subscription', 'expired');
});

test('an account has one trial pack for ever, whose balance stays between nothing and what was granted', async () => {
  await migrate(db);
  const accountId = await account();
  const pack = (remainingSeconds: number) =>
    db.transaction(async (tx) => {
      const id = uuidv7(now);
      tx.create(TrialPack, {
        id,
        accountId,
        stripeSessionId: `cs_${id}`,
        paymentIntent: `pi_${id}`,
        state: 'revoked',
        redeemedAt: now,
        expiresAt: now,
        grantedSeconds: 59_800,
        remainingSeconds,
        version: 1,
      });
    });
  await expect(pack(-1)).rejects.toThrow('trial_pack_balance');
  await expect(pack(59_801)).rejects.toThrow('trial_pack_balance');
  await pack(0);
  await expect(pack(0)).rejects.toThrow('trial_pack_account_id_unique');
});

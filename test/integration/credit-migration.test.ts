import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyLedger } from '../../server/credit/ledger.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { migrate } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { column } from '../support/credit.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
  database = await createTestDatabase('template0');
  db = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'credit-migration-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

test('entries of the first version are numbered in the order in which they were made, and still never change', async () => {
  await db.orm.migrator.up({ to: '0001-initial' });
  const at = new Date('2026-05-01T12:00:00Z');
  const [accountId, packId] = [uuidv7(at), uuidv7(at)];
  await db.pool.query('insert into account (id, email, created_at) values ($1, $2, $3)', [
    accountId,
    'early@example.com',
    at,
  ]);
  await db.pool.query(
    `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
                             granted_seconds, remaining_seconds, version)
     values ($1, $2, 'cs_1', 'pi_1', 'active', $3, $3, 59800, 39800, 11)`,
    [packId, accountId, at],
  );
  const entries = [
    ['reinstate', 39_800, 11],
    ['grant', 59_800, 1],
    ['revoke', -59_800, 2],
  ] as const;
  for (const [kind, seconds, version] of entries) {
    await db.pool.query(
      `insert into credit_entry (id, account_id, kind, seconds, report_key, created_at)
       values (gen_random_uuid(), $1, $2, $3, $4, $5)`,
      [accountId, kind, seconds, `${packId}:${version}`, at],
    );
  }

  await migrate(db);
  expect(
    await column(
      db,
      `select concat_ws(' ', position, kind, balance_seconds) from credit_entry where account_id = $1 order by position`,
      [accountId],
    ),
  ).toEqual(['1 grant 59800', '2 revoke 0', '3 reinstate 39800']);
  expect(await verifyLedger(db)).toEqual([]);
  await expect(db.pool.query('update credit_entry set seconds = 0')).rejects.toThrow('append-only');
});

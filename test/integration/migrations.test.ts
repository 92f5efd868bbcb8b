import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { migrate, pendingMigrations } from '../../server/database/migrate.ts';
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
  expect(await pendingMigrations(db)).toEqual(['migration 0001-initial', 'job queue schema']);
  const relations = await db.pool.query(
    "select 1 from pg_class join pg_namespace n on n.oid = relnamespace where n.nspname in ('public', 'pgboss')",
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

test('a job queue whose policy is not the one in the code is named as pending, and mended', async () => {
  const other = await createTestDatabase();
  const behind = await connectDatabase({ url: other.url, poolMax: 2, applicationName: 'migrations-test' });
  try {
    await behind.pool.query("update pgboss.queue set retry_limit = 1 where name = 'send-email'");
    expect(await pendingMigrations(behind)).toEqual(['job queue send-email']);
    await migrate(behind);
    expect(await pendingMigrations(behind)).toEqual([]);
  } finally {
    await behind.close();
    await other.drop();
  }
});

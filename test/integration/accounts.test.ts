import { afterAll, beforeAll, expect, test } from 'vitest';
import { listAudit } from '../../server/audit/list.ts';
import { createAccount } from '../../server/billing/accounts.ts';
import { hashKey } from '../../server/billing/caller.ts';
import { issueKey, listKeys, revokeKey } from '../../server/billing/keys.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const now = new Date('2026-05-01T00:00:00Z');

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'accounts-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const open = (email: string) => db.transaction((tx) => createAccount(tx, { email, now }));
const issue = (accountId: string, name = 'ci') =>
  db.transaction((tx) => issueKey(tx, { accountId, scopes: ['account_owner'], name, now }));

test('an address is taken once, in lower case, whoever is first', async () => {
  const account = await open(' Ada@Example.COM ');
  expect(account.email).toBe('ada@example.com');
  await expect(open('ADA@example.com')).rejects.toMatchObject({ status: 409, code: 'email_taken' });
  const together = await Promise.allSettled([open('twin@example.com'), open('Twin@example.com')]);
  expect(together.map((one) => one.status).toSorted()).toEqual(['fulfilled', 'rejected']);
});

test.each([
  '',
  'ada',
  'ada@localhost',
  'ada@example.com\r\nBcc: eve@example.com',
  'ada@example.com\nBcc: eve@example.com',
  'ada@example.com,eve@example.com',
  'ada,x@example.com',
  'ada\u0000@example.com',
  'Ada <ada@example.com>',
  `${'a'.repeat(250)}@example.com`,
])('%j is not an address', async (email) => {
  await expect(open(email)).rejects.toMatchObject({
    slug: 'validation-failed',
    options: { errors: [{ field: 'email' }] },
  });
});

test('a key is shown once and only its hash is kept', async () => {
  const { id: accountId } = await open('keys@example.com');
  const issued = await issue(accountId);
  expect(issued.key).toMatch(/^ds_live_[A-Za-z0-9_-]{43}$/);
  expect(issued.key.startsWith(issued.prefix)).toBe(true);
  expect((await issue(accountId, 'other')).key).not.toBe(issued.key);

  const { rows } = await db.pool.query<{ id: string }>('select id from api_key where hash = $1', [
    hashKey(issued.key),
  ]);
  expect(rows).toEqual([{ id: issued.id }]);
  const secret = issued.key.slice(issued.prefix.length);
  for (const table of ['api_key', 'audit_entry', 'account']) {
    const stored = await db.pool.query<{ text: string }>(`select t::text as text from ${table} t`);
    expect(stored.rows.length).toBeGreaterThan(0);
    for (const row of stored.rows) expect(row.text).not.toContain(secret);
  }
});

test("an account's keys are listed without anything that could be used as one", async () => {
  const { id: accountId } = await open('list@example.com');
  const issued = await issue(accountId);
  const expiresAt = new Date('2026-06-01T00:00:00Z');
  await db.transaction((tx) =>
    issueKey(tx, { accountId, scopes: ['read'], name: 'later', now: new Date(now.getTime() + 1), expiresAt }),
  );
  const keys = await listKeys(db, accountId);
  expect(keys.map((key) => ({ ...key }))).toEqual([
    expect.objectContaining({ name: 'later', scopes: ['read'], expiresAt, revokedAt: null }),
    expect.objectContaining({
      id: issued.id,
      prefix: issued.prefix,
      scopes: ['account_owner'],
      expiresAt: null,
    }),
  ]);
  expect(JSON.stringify(keys)).not.toContain('hash');
});

test('revoking is for good, counts once and is audited', async () => {
  const { id: accountId } = await open('revoke@example.com');
  const { id: keyId, prefix } = await issue(accountId);
  const revoke = () => db.transaction((tx) => revokeKey(tx, { keyId, now, actor: { type: 'staff' } }));
  const together = await Promise.all([revoke(), revoke()]);
  expect(together.toSorted()).toEqual([false, true]);
  expect(await revoke()).toBe(false);
  expect((await listKeys(db, accountId))[0]?.revokedAt).toEqual(now);
  const { data } = await listAudit(db, accountId, { limit: 50 });
  expect(data.map((entry) => [entry.action, entry.actor_type, entry.target_resource_id])).toEqual([
    ['api_key.revoked', 'staff', `key_${keyId}`],
    ['api_key.minted', 'system', `key_${keyId}`],
    ['account.created', 'system', `acc_${accountId}`],
  ]);
  expect(data[1]?.payload).toEqual({ name: 'ci', prefix, scopes: ['account_owner'] });
});

test('keys of unknown accounts and unknown keys are not found', async () => {
  await expect(issue(uuidv7(now))).rejects.toMatchObject({ slug: 'not-found' });
  await expect(db.transaction((tx) => revokeKey(tx, { keyId: uuidv7(now), now }))).rejects.toMatchObject({
    slug: 'not-found',
  });
});

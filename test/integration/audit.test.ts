import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { append, type NewAuditEntry } from '../../server/audit/append.ts';
import { listAudit } from '../../server/audit/list.ts';
import { verifyChain } from '../../server/audit/verify.ts';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { encodeCursor } from '../../server/database/cursor.ts';
import { TrialPack } from '../../server/database/entities/billing.ts';
import { CreditEntry } from '../../server/database/entities/credit.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { auditListResult } from '../../shared/audit.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const now = new Date('2026-05-01T00:00:00.123Z');

let database: TestDatabase;
let db: Database;
let accountId: string;
let accounts = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'audit-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

beforeEach(async () => {
  accountId = await newAccount();
});

async function newAccount(): Promise<string> {
  accounts += 1;
  const email = `audit-${accounts}@example.com`;
  return (await db.transaction((tx) => createAccount(tx, { email, now }))).id;
}

function fact(dedupeKey: string, over: Partial<NewAuditEntry> = {}): NewAuditEntry {
  return {
    accountId,
    action: 'invoice.paid',
    targetResourceId: null,
    payload: { z: 1, a: { d: [1.5, 'ü', null], c: 'it\'s a "quote" \\ ? $1' }, gone: undefined },
    actor: { type: 'system' },
    dedupeKey: `${accountId}:${dedupeKey}`,
    now,
    ...over,
  };
}

const add = (dedupeKey: string, over: Partial<NewAuditEntry> = {}) =>
  db.transaction((tx) => append(tx, fact(dedupeKey, over)));

/** What somebody with the rights of the owner could do to the table. */
async function tamper(statement: string, values: unknown[]): Promise<void> {
  const client = await db.pool.connect();
  try {
    await client.query('alter table audit_entry disable trigger all');
    await client.query(statement, values);
  } finally {
    await client.query('alter table audit_entry enable trigger all');
    client.release();
  }
}

test('an entry is read back in the documented envelope, and its schema accepts it', async () => {
  const actor = { type: 'customer', accountId, keyId: uuidv7(now) } as const;
  await add('a', {
    action: 'subscription.tier_changed',
    targetResourceId: 'sub_1',
    actor,
    payload: { from: null, to: 'api_builder' },
  });
  const page = await listAudit(db, accountId, { limit: 1 });
  expect(auditListResult.parse(page)).toEqual(page);
  expect(page.data[0]).toEqual({
    id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    account_id: `acc_${accountId}`,
    actor_type: 'customer',
    actor_account_id: `acc_${accountId}`,
    actor_key_id: `key_${actor.keyId}`,
    action: 'subscription.tier_changed',
    target_resource_id: 'sub_1',
    payload: { from: null, to: 'api_builder' },
    ip_address: null,
    user_agent: null,
    timestamp: '2026-05-01T00:00:00Z',
  });
});

test('the same fact is written once, also when it is reported at the same moment twice', async () => {
  expect(await add('once')).toBe(true);
  expect(await add('once')).toBe(false);
  const together = await Promise.all([add('twice'), add('twice'), add('twice')]);
  expect(together.filter(Boolean)).toHaveLength(1);
  expect((await listAudit(db, accountId, { limit: 100 })).data).toHaveLength(3);
  expect(await verifyChain(db, accountId)).toBeNull();
});

test('entries written at the same moment get consecutive positions in one chain', async () => {
  await Promise.all(Array.from({ length: 20 }, (_, index) => add(`concurrent-${index}`)));
  const { rows } = await db.pool.query<{ position: string }>(
    'select position from audit_entry where account_id = $1 order by position',
    [accountId],
  );
  expect(rows.map((row) => Number(row.position))).toEqual(
    Array.from({ length: 21 }, (_, index) => index + 1),
  );
  expect(await verifyChain(db, accountId)).toBeNull();
});

test('two facts in one transaction follow each other, and a rolled-back one leaves no gap', async () => {
  await expect(
    db.transaction(async (tx) => {
      await append(tx, fact('rolled-back'));
      throw new Error('changed my mind');
    }),
  ).rejects.toThrow('changed my mind');
  await db.transaction(async (tx) => {
    await append(tx, fact('first'));
    await append(tx, fact('second'));
  });
  expect((await listAudit(db, accountId, { limit: 100 })).data).toHaveLength(3);
  expect(await verifyChain(db, accountId)).toBeNull();
});

test('the database refuses to update, delete and truncate audit entries and credit entries', async () => {
  await db.transaction(async (tx) => {
    await tx.insert(TrialPack, {
      id: uuidv7(now),
      accountId,
      stripeSessionId: 'cs_1',
      paymentIntent: 'pi_1',
      state: 'active',
      redeemedAt: now,
      expiresAt: now,
      grantedSeconds: 59_800,
      remainingSeconds: 59_800,
      entryCount: 1,
      version: 1,
    });
    await tx.insert(CreditEntry, {
      id: uuidv7(now),
      accountId,
      position: 1,
      kind: 'grant',
      seconds: 59_800,
      balanceSeconds: 59_800,
      reportKey: `grant:${accountId}`,
      createdAt: now,
    });
  });
  for (const table of ['audit_entry', 'credit_entry']) {
    for (const statement of [`update ${table} set id = id`, `delete from ${table}`, `truncate ${table}`]) {
      await expect(db.pool.query(statement), statement).rejects.toThrow(`${table} is append-only`);
    }
  }
});

test.each([
  [
    'a changed payload',
    'update audit_entry set payload = \'{"to":"api_scale"}\' where account_id = $1 and position = 3',
    3,
  ],
  [
    'a changed time',
    "update audit_entry set occurred_at = occurred_at + interval '1 ms' where account_id = $1 and position = 4",
    4,
  ],
  ['an entry taken out', 'delete from audit_entry where account_id = $1 and position = 2', 2],
  ['the newest entry taken out', 'delete from audit_entry where account_id = $1 and position = 5', 5],
  [
    'an exchanged hash',
    "update audit_entry set hash = sha256('x') where account_id = $1 and position = 3",
    3,
  ],
  [
    'an entry put in at the end',
    "insert into audit_entry select gen_random_uuid(), account_id, 6, dedupe_key || 'x', actor_type, null, null, action, null, payload, occurred_at, hash, hash from audit_entry where account_id = $1 and position = 5",
    6,
  ],
])('%s is found by verifying the chain', async (_what, statement, broken) => {
  for (const key of ['2', '3', '4', '5']) await add(key);
  expect(await verifyChain(db, accountId)).toBeNull();
  await tamper(statement, [accountId]);
  expect(await verifyChain(db, accountId)).toBe(broken);
});

test('pages are newest first, complete, and do not shift while entries are added', async () => {
  for (let index = 0; index < 6; index += 1) await add(`page-${index}`);
  const first = await listAudit(db, accountId, { limit: 3 });
  await add('in between');
  const second = await listAudit(db, accountId, { limit: 3, cursor: first.next_cursor ?? '' });
  const third = await listAudit(db, accountId, { limit: 3, cursor: second.next_cursor ?? '' });
  const ids = [first, second, third].flatMap((page) => page.data.map((entry) => entry.id));
  const { rows } = await db.pool.query<{ id: string }>(
    'select id from audit_entry where account_id = $1 and position <= 7 order by position desc',
    [accountId],
  );
  expect(ids).toEqual(rows.map((row) => row.id));
  expect(third.next_cursor).toBeNull();
});

test('a page can be limited to one action', async () => {
  await add('paid');
  await add('failed', { action: 'invoice.payment_failed' });
  const page = await listAudit(db, accountId, { limit: 50, action: 'invoice.payment_failed' });
  expect(page.data.map((entry) => entry.action)).toEqual(['invoice.payment_failed']);
  expect((await listAudit(db, accountId, { limit: 50, action: 'no.such_action' })).data).toEqual([]);
});

test("another account's entries never show", async () => {
  await add('mine');
  const other = await newAccount();
  expect((await listAudit(db, other, { limit: 50 })).data.map((entry) => entry.action)).toEqual([
    'account.created',
  ]);
});

test('a cursor that this list did not give to this account is refused by name', async () => {
  const other = await newAccount();
  const bad = [
    'nonsense',
    '%%%',
    encodeCursor('audit', other, 2),
    encodeCursor('events', accountId, 2),
    encodeCursor('audit', accountId, -1),
    encodeCursor('audit', accountId, 1.5),
    `${encodeCursor('audit', accountId, 2)}=`,
    ` ${encodeCursor('audit', accountId, 2)}`,
  ];
  for (const cursor of bad) {
    await expect(listAudit(db, accountId, { limit: 50, cursor }), cursor).rejects.toMatchObject({
      name: 'ProblemError',
      slug: 'bad-request',
      options: { errors: [{ field: 'cursor' }] },
    });
  }
  expect(
    (await listAudit(db, accountId, { limit: 50, cursor: encodeCursor('audit', accountId, 2) })).data,
  ).toHaveLength(1);
});

import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportAudit } from '../../server/audit/export.ts';
import { type AuditFilter, listAudit } from '../../server/audit/list.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { untilTrue } from '../support/service.ts';

const BIG = '01890a5d-ac96-774b-bcce-b302099a8057';
const LIMIT = 50;

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'audit-filters-test' });
  // Four hundred accounts with two years of entries, every fourth entry of one of them: 10,000 of 40,000.
  await db.pool.query(`
    insert into account (id, email, created_at)
      select case when i = 0 then '${BIG}' else gen_random_uuid() end, i || '@b.test', '2024-01-01'
        from generate_series(0, 400) i`);
  await db.pool.query(`
    insert into audit_entry (id, account_id, position, dedupe_key, actor_type, action, payload, occurred_at, hash)
      select gen_random_uuid(), a.id, row_number() over (partition by a.id order by i), i::text, 'system',
             case when i % 3 = 0 then 'invoice.paid' else 'portal_session.started' end,
             jsonb_build_object('stripe_event_id', repeat('x', 200)),
             timestamptz '2024-01-01 00:00Z' + i * interval '26 minutes', sha256(i::text::bytea)
        from generate_series(1, 40000) i
        join account a on a.email = case when i % 4 = 0 then 0 else 1 + i % 400 end || '@b.test'`);
  await db.pool.query('update account set audit_position = 10000 where id = $1', [BIG]);
  await db.pool.query('vacuum analyze audit_entry');
}, 120_000);
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

/** What PostgreSQL says it read of the table while something ran. */
async function reading<T>(run: () => Promise<T>): Promise<{ answer: T; scans: number; rows: number }> {
  const counters = async () => {
    await db.pool.query('select pg_stat_force_next_flush()');
    await db.pool.query('select pg_stat_clear_snapshot()');
    const { rows } = await db.pool.query<{ scans: string; found: string; rows: string }>(
      `select seq_scan as scans, idx_scan as found, idx_tup_fetch as rows
         from pg_stat_user_tables where relname = 'audit_entry'`,
    );
    return Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, value]) => [name, Number(value)]));
  };
  const before = await counters();
  const answer = await run();
  await untilTrue(async () => {
    const now = await counters();
    return (now['scans'] ?? 0) + (now['found'] ?? 0) > (before['scans'] ?? 0) + (before['found'] ?? 0);
  });
  const after = await counters();
  const grown = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
  return { answer, scans: grown('scans'), rows: grown('rows') };
}

const FILTERS: Readonly<Record<string, AuditFilter>> = {
  'no filter': {},
  'an action': { action: 'invoice.paid' },
  'an action that never was': { action: 'trial_pack.redeemed' },
  'the first day': { until: '2024-01-02T00:00:00Z' },
  'the first half': { until: '2025-01-01T00:00:00Z' },
  'a day in the middle': { since: '2025-01-01T00:00:00Z', until: '2025-01-02T00:00:00Z' },
  'what is to come': { since: '2030-01-01T00:00:00Z' },
  'an action on a day in the middle': {
    action: 'invoice.paid',
    since: '2025-01-01T00:00:00Z',
    until: '2025-01-02T00:00:00Z',
  },
};

test.each(Object.entries(FILTERS))(
  'a page of a long log with %s reads its own rows and no others',
  async (_what, filter) => {
    const { answer, scans, rows } = await reading(() => listAudit(db, BIG, { ...filter, limit: LIMIT }));
    expect(scans).toBe(0);
    // One more tells whether there is a next page.
    expect(rows).toBe(answer.data.length + (answer.next_cursor === null ? 0 : 1));
  },
);

test('an export of one day reads the rows of that day and no others', async () => {
  const filter = { since: '2025-01-01T00:00:00Z', until: '2025-01-02T00:00:00Z' };
  const { answer, scans, rows } = await reading(async () => {
    let text = '';
    for await (const part of exportAudit(db, { accountId: BIG, filter, format: 'json' }, () => undefined))
      text += part;
    return JSON.parse(text).length;
  });
  expect(answer).toBeGreaterThan(10);
  expect(scans).toBe(0);
  // Counted once, and read once.
  expect(rows).toBeLessThanOrEqual(2 * answer);
});

import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { createEventStore, INSERT, type NewEvent } from '../../server/stripe/inbox/event-store.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  // One connection, so that it is known which one has prepared the statement.
  db = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'event-store' });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const now = new Date('2026-05-01T00:00:00Z');
const event = (id: string): NewEvent => ({
  id,
  type: 'invoice.paid',
  objectId: 'in_1',
  customerId: 'cus_1',
  livemode: false,
  apiVersion: null,
  createdAt: now,
  raw: Buffer.from(id),
  receivedAt: now,
  ignoredBecause: null,
  names: null,
});

/** Of them PostgreSQL makes the first five for what is asked, and then compares what they cost. */
const FOR_WHAT_IS_ASKED = 5;

it('is planned once for all, however many events come together', async () => {
  const store = createEventStore(db);
  for (let at = 0; at < 12; at++) expect(await store(event(`evt_alone${at}`))).toBe(true);
  await Promise.all(Array.from({ length: 50 }, (_, at) => store(event(`evt_together${at}`))));
  const { rows } = await db.pool.query<{ custom: number; once: number }>(
    `select custom_plans::int as custom, generic_plans::int as once from pg_prepared_statements
      where name = 'insert-stripe-events'`,
  );
  expect(rows[0]?.custom).toBe(FOR_WHAT_IS_ASKED);
  expect(rows[0]?.once).toBeGreaterThanOrEqual(8);
});

it('finds accounts by the indexes of their customers, whatever the tables hold', async () => {
  type Node = { 'Node Type': string; 'Index Name'?: string; Plans?: Node[] };
  const client = await db.pool.connect();
  try {
    await client.query('begin');
    await client.query('set local enable_seqscan = off');
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
      `explain (generic_plan, format json) ${INSERT}`,
    );
    const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];
    const nodes = (rows[0]?.['QUERY PLAN'] ?? []).flatMap(({ Plan }) => all(Plan));
    expect(nodes.flatMap((node) => node['Index Name'] ?? []).sort()).toEqual([
      'account_stripe_customer_id_unique',
      'former_stripe_customer_pkey',
    ]);
    expect(nodes.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
  } finally {
    await client.query('rollback');
    client.release();
  }
});

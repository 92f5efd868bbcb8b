import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { migrate } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { NOW } from '../support/stripe.ts';

/** A database as the version before left it in the middle of its work, with all of it waiting in job queues. */
let database: TestDatabase;
let db: Database;
const account = uuidv7(NOW);

beforeAll(async () => {
  database = await createTestDatabase('template0');
  db = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'due-rows-migration' });
  await db.orm.migrator.up({ to: '0010-stripe-email' });
  const { pool } = db;
  await pool.query('insert into account (id, email, created_at) values ($1, $2, $3)', [
    account,
    'a@example.com',
    NOW,
  ]);
  for (const [id, state, owner] of [
    ['evt_named', 'received', account],
    ['evt_unnamed', 'received', null],
    ['evt_done', 'done', account],
    ['evt_dead', 'dead', account],
    ['evt_ignored', 'ignored', null],
  ])
    await pool.query(INSERT_EVENT, [id, state, owner, NOW]);
  for (const state of ['pending', 'sent', 'parked', 'not_configured'])
    await pool.query(INSERT_MAIL, [uuidv7(NOW), account, state, NOW]);
  await pool.query(
    `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
       granted_seconds, remaining_seconds, version)
     values ($1, $2, 'cs_1', 'pi_1', 'active', $3, $3, 59800, 59800, 1)`,
    [uuidv7(NOW), account, NOW],
  );
  await migrate(db);
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const INSERT_EVENT = `insert into stripe_event (id, type, livemode, created_at, raw, state, account_id, received_at)
  values ($1, 'invoice.paid', false, $4, '', $2, $3, $4)`;
const INSERT_MAIL = `insert into email (id, account_id, natural_key, template, to_address, data, state, created_at)
  values ($1, $2, 'mail:' || $3, 'receipt', 'a@example.com', '{}', $3, $4)`;

async function due(table: string, name: string): Promise<string[]> {
  const { rows } = await db.pool.query<{ name: string }>(
    `select ${name} as name from ${table} where due_at <= now() order by 1`,
  );
  return rows.map((row) => row.name);
}

it('makes due what waited in a queue, and nothing that was over', async () => {
  expect(await due('stripe_event', 'id')).toEqual(['evt_named', 'evt_unnamed']);
  expect(await due('email', 'natural_key')).toEqual(['mail:pending']);
  expect(await due('trial_pack', 'stripe_session_id')).toEqual(['cs_1']);
});

it('makes due what a version before this one still adds beside it', async () => {
  await db.pool.query(INSERT_EVENT, ['evt_old_process', 'received', null, NOW]);
  await db.pool.query(INSERT_MAIL.replace("'mail:'", "'old:'"), [uuidv7(NOW), account, 'pending', NOW]);
  expect(await due('stripe_event', 'id')).toContain('evt_old_process');
  expect(await due('email', 'natural_key')).toContain('old:pending');
});

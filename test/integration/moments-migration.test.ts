import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectDatabase } from '../../server/database/connection.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { migrate } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { createTestDatabase } from '../support/database.ts';
import { type Bench, NOW, openBench, subscription } from '../support/stripe.ts';

const START = 1_777_593_600;
const END = 1_780_272_000;

/** An account as the version before left it, and its subscription at Stripe. */
type Old = {
  accountId: string;
  columns: Readonly<Record<string, unknown>>;
  atStripe: Parameters<typeof subscription>[0];
};

const phase = (start: number, end: number, key: string) => ({
  start_date: start,
  end_date: end,
  items: [{ price: `price_driftstack_${key}` }],
});
const booked = (key: string) => ({
  id: `sub_sched_${key}`,
  object: 'subscription_schedule',
  status: 'active',
  end_behavior: 'release',
  current_phase: { start_date: START, end_date: END },
  phases: [phase(START, END, 'api_builder_monthly'), phase(END, END + 2_678_400, key)],
});

const old = (columns: Old['columns'], atStripe: Old['atStripe']): Old => ({
  accountId: uuidv7(NOW),
  columns: { cancel_at_period_end: false, pending_tier: null, status: 'active', entitled: true, ...columns },
  atStripe,
});

const accounts = {
  plain: old({}, {}),
  canceling: old({ cancel_at_period_end: true }, { cancel_at: END }),
  // Told the end of the period, and cut off before.
  cancelingSooner: old({ cancel_at_period_end: true }, { cancel_at: START + 864_000 }),
  booked: old({ pending_tier: 'api_starter' }, { schedule: booked('api_starter_monthly') }),
  // Told of another tier and the same period, which is not what was booked.
  bookedOtherwise: old({ pending_tier: 'api_scale' }, { schedule: booked('api_scale_annual') }),
  // A change of the period alone, which nobody was told of.
  bookedPeriod: old({}, { schedule: booked('api_builder_annual') }),
  ended: old({ status: 'canceled', entitled: false }, { status: 'canceled', ended_at: START + 5 }),
};

let bench: Bench;
beforeAll(async () => {
  const database = await createTestDatabase('template0');
  const db = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'moments-migration' });
  try {
    await db.orm.migrator.up({ to: '0007-fair-webhooks' });
    for (const { accountId, columns } of Object.values(accounts)) {
      await db.pool.query(
        'insert into account (id, email, stripe_customer_id, created_at) values ($1, $2, $3, $4)',
        [accountId, `${accountId}@example.com`, `cus_${accountId}`, NOW],
      );
      await db.pool.query(
        `insert into subscription (id, account_id, stripe_subscription_id, tier, billing_period, current_period_start,
           current_period_end, version, updated_at, cancel_at_period_end, pending_tier, status, entitled)
         values ($1, $2, $3, 'api_builder', 'monthly', to_timestamp($4), to_timestamp($5), 3, $6, $7, $8, $9, $10)`,
        [
          uuidv7(NOW),
          accountId,
          `sub_${accountId}`,
          START,
          END,
          NOW,
          columns['cancel_at_period_end'],
          columns['pending_tier'],
          columns['status'],
          columns['entitled'],
        ],
      );
    }
    await migrate(db);
  } finally {
    await db.close();
  }
  bench = await openBench(database);
  for (const { accountId, atStripe } of Object.values(accounts)) {
    const customer = `cus_${accountId}`;
    bench.stripe.put({ id: customer, object: 'customer', email: `${accountId}@example.com`, metadata: {} });
    bench.stripe.put(subscription({ customer, ...atStripe, id: `sub_${accountId}` }));
  }
});
afterAll(() => bench.close());

/** Looks at Stripe as the nightly comparison does, and returns what was written down of it. */
async function look({ accountId }: Old) {
  const differences = await reconcile(bench, accountId, { by: 'reconciler' });
  const em = bench.db.orm.em.fork();
  const audit = await em.find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
  const mails = await em.find(Email, { accountId });
  return {
    row: await em.findOneOrFail(Subscription, { accountId }),
    told: [...audit.map(({ action }) => action), ...mails.map(({ template }) => template)],
    payload: audit[0]?.payload,
    differences: differences.map(({ kind }) => kind),
  };
}

const NOTHING = { told: [], differences: [] };

it('tells nobody again of what was told rightly', async () => {
  expect(await look(accounts.plain)).toMatchObject({ ...NOTHING, row: { endsAt: null, version: 3 } });
  expect(await look(accounts.canceling)).toMatchObject({ ...NOTHING, row: { endsAt: new Date(END * 1000) } });
  expect(await look(accounts.booked)).toMatchObject({
    ...NOTHING,
    row: {
      pendingTier: 'api_starter',
      pendingBillingPeriod: 'monthly',
      pendingChangesAt: new Date(END * 1000),
    },
  });
});

it('learns when an old subscription ended without a word', async () => {
  expect(await look(accounts.ended)).toMatchObject({
    ...NOTHING,
    row: { status: 'canceled', endedAt: new Date((START + 5) * 1000) },
  });
  expect(await look(accounts.ended)).toMatchObject(NOTHING);
});

it('puts right what was told wrongly, once', async () => {
  expect(await look(accounts.cancelingSooner)).toMatchObject({
    told: ['subscription.cancel_scheduled', 'operator.reconciled', 'cancellation_scheduled'],
    payload: { ends_at: '2026-05-11T00:00:00Z' },
    differences: ['ends_at'],
  });
  expect(await look(accounts.bookedOtherwise)).toMatchObject({
    told: ['subscription.billing_period_change_scheduled', 'operator.reconciled', 'plan_change_scheduled'],
    differences: ['pending_plan'],
  });
  expect(await look(accounts.bookedPeriod)).toMatchObject({
    told: ['subscription.billing_period_change_scheduled', 'operator.reconciled', 'plan_change_scheduled'],
    payload: { from: 'monthly', to: 'annual', changes_at: '2026-06-01T00:00:00Z' },
  });
  for (const account of [accounts.cancelingSooner, accounts.bookedOtherwise, accounts.bookedPeriod])
    expect((await look(account)).differences).toEqual([]);
});

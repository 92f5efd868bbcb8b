import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { CHANNEL } from '../../server/database/due.ts';
import { Account } from '../../server/database/entities/account.ts';
import { type Mail, queueEmail } from '../../server/notify/outbox.ts';
import type { EmailTemplate } from '../../server/notify/templates.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { untilTrue } from '../support/service.ts';

const now = new Date('2026-05-01T00:00:00Z');
const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;

let database: TestDatabase;
let db: Database;
let accountId: string;
let accounts = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'outbox-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

beforeEach(async () => {
  accounts += 1;
  const email = `outbox-${accounts}@example.com`;
  accountId = (await db.transaction((tx) => createAccount(tx, { email, now }))).id;
});

afterEach(async () => {
  await db.pool.query('delete from email');
});

const resumed = (naturalKey: string): Mail => ({
  accountId,
  to: 'a@example.com',
  template: 'subscription_resumed',
  data: { plan, next: null },
  naturalKey,
});

const queue = (mail: Mail) => db.transaction((tx) => queueEmail(tx, mail, now));

async function rows<T extends object>(statement: string): Promise<T[]> {
  return (await db.pool.query<T>(statement)).rows;
}

test('a mail is due at once, may go with others, and whoever listens hears of it after the commit', async () => {
  const listener = await db.pool.connect();
  const heard: (string | undefined)[] = [];
  try {
    await listener.query(`listen ${CHANNEL}`);
    listener.on('notification', ({ payload }) => heard.push(payload));
    expect(await queue(resumed('fact:1'))).toBe(true);
    await untilTrue(() => heard.length > 0);
  } finally {
    listener.release(true);
  }
  expect(heard).toEqual(['email']);
  expect(await rows('select *, due_at <= now() as is_due from email')).toMatchObject([
    {
      ...{ natural_key: 'fact:1', state: 'pending', to_address: 'a@example.com', attempts: 0 },
      ...{ is_due: true, alone: false, batch_id: null, lease: null },
    },
  ]);
});

test('a transaction that fails leaves no mail', async () => {
  const failing = db.transaction(async (tx) => {
    await queueEmail(tx, resumed('fact:1'), now);
    throw new Error('changed our mind');
  });
  await expect(failing).rejects.toThrow('changed our mind');
  expect(await rows('select id from email')).toEqual([]);
});

test('a fact queued by many at once is one mail', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => queue(resumed('fact:1'))));
  expect(answers.filter(Boolean)).toHaveLength(1);
  expect(await rows('select id from email')).toHaveLength(1);
});

test('a fact queued after the one who queued it first gave up is queued', async () => {
  const failing = db.transaction(async (tx) => {
    await queueEmail(tx, resumed('fact:1'), now);
    throw new Error('changed our mind');
  });
  await expect(failing).rejects.toThrow();
  expect(await queue(resumed('fact:1'))).toBe(true);
});

describe('an account that has switched its notices off', () => {
  const mails: readonly Mail[] = [
    make('payment_receipt', {
      amountCents: 1,
      currency: 'usd',
      paidAt: now,
      invoiceNumber: null,
      charges: null,
      totalCents: 1,
      includedTaxCents: 0,
      settlement: null,
      hostedInvoiceUrl: null,
    }),
    make('plan_changed', { from: plan, to: plan, changedAt: now, inEffect: true, endedAt: null }),
    make('plan_change_scheduled', { from: plan, to: plan, changesAt: now, replaced: null }),
    make('plan_change_unscheduled', { plan, calledOff: null }),
    make('renewal_upcoming', { plan, amountCents: 1, currency: 'usd', renewsAt: now, charged: true }),
    make('payment_failed', {
      plan,
      begins: false,
      over: false,
      attempt: 1,
      amountCents: 1,
      currency: 'usd',
      nextAttemptAt: null,
      payUrl: null,
    }),
    make('payment_action_required', {
      plan,
      begins: false,
      over: false,
      amountCents: 1,
      currency: 'usd',
      payUrl: null,
    }),
    make('subscription_ended', { plan, endedAt: now }),
  ];

  function make<T extends EmailTemplate>(template: T, data: Extract<Mail, { template: T }>['data']): Mail {
    // The two belong together by the signature; TypeScript does not follow that through the union.
    return { accountId: '', to: 'a@example.com', template, data, naturalKey: template } as Mail;
  }

  const queued = async () => {
    for (const mail of mails) await queue({ ...mail, accountId });
    return (await rows<{ template: string }>('select template from email order by template')).map(
      (row) => row.template,
    );
  };

  test('gets every one of them until it does', async () => {
    expect(await queued()).toHaveLength(mails.length);
  });

  test.each([
    ['receiptEmails', ['payment_receipt']],
    ['tierChangeEmails', ['plan_change_scheduled', 'plan_change_unscheduled', 'plan_changed']],
    ['renewalEmails', ['renewal_upcoming']],
  ] as const)('with %s off is spared %j and hears of failures all the same', async (column, spared) => {
    await db.transaction((tx) => tx.nativeUpdate(Account, { id: accountId }, { [column]: false }));
    const all = mails.map((mail) => mail.template).sort();
    expect(await queued()).toEqual(all.filter((template) => !spared.some((one) => one === template)));
  });
});

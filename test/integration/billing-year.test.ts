import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { findEmbeddedPostgres } from '../../server/database/embedded/running.ts';
import { Driftstack } from '../../shared/client.ts';
import { DriftstackInternal } from '../../shared/internal-client.ts';
import { type Service, startService, untilTrue } from '../support/service.ts';

// A year of two customers, lived by the console's clock. What is expected is written from Stripe's documentation by
// hand: a renewal is told seven days ahead, a failed payment is tried again after 3, 5 and 7 days more, and then the
// subscription is canceled. The product's own: a trial pack ends after 14 days, with a notice a day before.

const CLI = fileURLToPath(new URL('../../server/cli.ts', import.meta.url));
const DAY_S = 86_400;
const TOKEN = 'a-service-token-of-the-test';

let dataDir: string;
let service: Service;
let database: Client;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'driftstack-year-'));
  service = await startService(dataDir, { INTERNAL_API_TOKEN: TOKEN });
  await connect();
}, 60_000);
afterAll(async () => {
  await database?.end();
  await service?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function connect(): Promise<void> {
  database = new Client({ connectionString: (await findEmbeddedPostgres(join(dataDir, 'postgres'))) ?? '' });
  await database.connect();
}

type Customer = { readonly accountId: string; readonly client: Driftstack };

async function openAccount(email: string): Promise<Customer> {
  const internal = new DriftstackInternal({ token: TOKEN, baseUrl: service.apiUrl });
  const { account_id: accountId } = await internal.accounts.create({ email });
  const { api_key: apiKey } = await internal.keys.issue({
    account_id: accountId,
    name: 'year',
    scopes: ['account_owner'],
  });
  return { accountId, client: new Driftstack({ apiKey, baseUrl: service.apiUrl }) };
}

async function pay(checkoutUrl: string, number = '4242424242424242'): Promise<void> {
  await form(checkoutUrl, { method: 'card', number, expiry: '12 / 40', cvc: '123' });
}

async function form(url: string, fields: Record<string, string>): Promise<void> {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(fields) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
}

const hookSchema = z.object({ now: z.number() });
const localStripeNow = async (): Promise<number> =>
  hookSchema.parse(await (await fetch(`${service.stripeUrl}/_sandbox`)).json()).now;

/** Presses the buttons of the console, and waits for the clock to arrive. */
async function advance(...steps: string[]): Promise<void> {
  for (const by of steps) await form(`${service.stripeUrl}/console/clock`, { by });
  await untilTrue(
    async () => !(await (await fetch(`${service.stripeUrl}/console`)).text()).includes('On the way to'),
    240_000,
  );
}

type Told = { readonly template: string; readonly at: number; readonly data: Record<string, unknown> };

/** The mails to an account in the order in which they were written, with the moment of each in unix seconds. */
async function mails({ accountId }: Customer): Promise<Told[]> {
  const { rows } = await database.query<{ template: string; at: number; data: Record<string, unknown> }>(
    `select template, extract(epoch from created_at)::float8 as at, data from email
      where account_id = $1 order by created_at, id`,
    [accountId.slice('acc_'.length)],
  );
  return rows;
}

/** So many months after a moment, at the same time of day; the last day of a month that is too short. */
function monthsAfter(seconds: number, months: number): number {
  const date = new Date(seconds * 1_000);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth() + months, date.getUTCDate()];
  const days = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Date.UTC(year, month, Math.min(day, days)) / 1_000 + (seconds % DAY_S);
}

/** How many days until it is so. */
function daysUntil(isSo: (days: number) => boolean): number {
  let days = 0;
  while (!isSo(days)) days += 1;
  return days;
}

const seconds = (value: unknown): number => Date.parse(z.string().parse(value)) / 1_000;

/** What is written about a moment is written within this of it, on a machine that is busy with other tests. */
const PROMPT_S = 60;

it('lives a year in order: renewals, notices, failures, ends and mails, each at its moment', async () => {
  const monthly = await openAccount('monthly@example.com');
  const annual = await openAccount('annual@example.com');
  // Always on that day, whenever the test runs: after it months are shorter, and have 31 days again.
  const today = await localStripeNow();
  const onThe31st = (days: number) => new Date((today + days * DAY_S) * 1_000).toJSON().includes('-01-31T');
  await advance(...Array.from({ length: daysUntil(onThe31st) }, () => 'day'));
  const from = await localStripeNow();
  await pay((await monthly.client.billing.startTrialPack()).checkout_url);
  await pay(
    (
      await monthly.client.billing.startCheckoutSession({
        tier: 'api_builder',
        billing_period: 'monthly',
      })
    ).checkout_url,
  );
  await pay(
    (await annual.client.billing.startCheckoutSession({ tier: 'api_scale', billing_period: 'annual' }))
      .checkout_url,
  );
  await untilTrue(async () => (await mails(monthly)).length >= 3 && (await mails(annual)).length >= 2);
  const period = async ({ client }: Customer): Promise<{ start: number; end: number }> => {
    const { subscription } = await client.billing.getState();
    return {
      start: seconds(subscription?.current_period_start),
      end: seconds(subscription?.current_period_end),
    };
  };
  const anchor = (await period(monthly)).start;
  const annualAnchor = (await period(annual)).start;
  expect(anchor - from).toBeLessThan(PROMPT_S);

  const began = performance.now();
  // A month from the end of a short one is not the end of the next.
  await advance('month', 'month', 'day', 'day', 'day', 'day');
  // From the third renewal on the bank refuses the first customer; of the other one the first renewal.
  for (const customer of [monthly, annual])
    await fetch(`${service.stripeUrl}/_sandbox/customers/${await customerOf(customer)}/decline_next`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ times: customer === monthly ? 4 : 1 }),
    });
  // Ten more to the year, and one for what follows from its last day.
  await advance(...Array.from({ length: 11 }, () => 'month'));
  const tookS = (performance.now() - began) / 1_000;
  console.log(`a year of two customers by the console: ${tookS.toFixed(1)} s`);

  const [renewal1, renewal2, renewal3] = [1, 2, 3].map((n) => monthsAfter(anchor, n)) as [
    number,
    number,
    number,
  ];
  const failures = [renewal3, renewal3 + 3 * DAY_S, renewal3 + 8 * DAY_S, renewal3 + 15 * DAY_S] as const;
  await expectStory(monthly, [
    // Three facts of one moment, in whatever order.
    ['payment_receipt|trial_pack_ready|subscription_started', anchor],
    ['payment_receipt|trial_pack_ready|subscription_started', anchor],
    ['payment_receipt|trial_pack_ready|subscription_started', anchor],
    ['credit_expiring', anchor + 13 * DAY_S],
    ['trial_pack_expired', anchor + 14 * DAY_S],
    ['renewal_upcoming', renewal1 - 7 * DAY_S, { renewsAt: renewal1 }],
    ['payment_receipt', renewal1, { paidAt: renewal1 }],
    ['renewal_upcoming', renewal2 - 7 * DAY_S, { renewsAt: renewal2 }],
    ['payment_receipt', renewal2, { paidAt: renewal2 }],
    ['renewal_upcoming', renewal3 - 7 * DAY_S, { renewsAt: renewal3 }],
    ['payment_failed', failures[0], { attempt: 1, nextAttemptAt: failures[1] }],
    ['payment_failed', failures[1], { attempt: 2, nextAttemptAt: failures[2] }],
    ['payment_failed', failures[2], { attempt: 3, nextAttemptAt: failures[3] }],
    ['payment_failed|subscription_ended', failures[3]],
    ['payment_failed|subscription_ended', failures[3]],
  ]);
  const last = (await mails(monthly)).filter(({ template }) => template === 'payment_failed').at(-1);
  expect(last?.data).toMatchObject({ attempt: 4, nextAttemptAt: null });

  const renewed = monthsAfter(annualAnchor, 12);
  await expectStory(annual, [
    ['payment_receipt|subscription_started', annualAnchor],
    ['payment_receipt|subscription_started', annualAnchor],
    ['renewal_upcoming', renewed - 7 * DAY_S, { renewsAt: renewed }],
    ['payment_failed', renewed, { attempt: 1, nextAttemptAt: renewed + 3 * DAY_S }],
    ['payment_receipt', renewed + 3 * DAY_S, { paidAt: renewed + 3 * DAY_S }],
  ]);
  expect((await annual.client.billing.getState()).subscription).toMatchObject({
    tier: 'api_scale',
    status: 'active',
  });
  expect((await period(annual)).end).toBe(monthsAfter(annualAnchor, 24));
  const { subscription, trial_pack } = await monthly.client.billing.getState();
  expect(subscription?.status).toBe('canceled');
  expect(trial_pack).toMatchObject({ active: false, credit_cents_remaining: 0, redeemed: true });
  // Not lived through in one leap, and not waited for longer than a person would.
  expect(tookS).toBeLessThan(180);
}, 300_000);

it('goes on in that time after a restart', async () => {
  const before = await localStripeNow();
  expect(before - Date.now() / 1_000).toBeGreaterThan(12 * 28 * DAY_S);
  await database.end();
  expect(await service.stop()).toBe(0);
  service = await startService(dataDir, { INTERNAL_API_TOKEN: TOKEN });
  await connect();
  const now = await localStripeNow();
  expect(now).toBeGreaterThanOrEqual(before);
  expect(now - before).toBeLessThan(120);
  // What is bought now is bought then.
  const late = await openAccount('late@example.com');
  await pay((await late.client.billing.startTrialPack()).checkout_url);
  await untilTrue(async () => (await late.client.billing.getState()).trial_pack.active);
  const { trial_pack: pack } = await late.client.billing.getState();
  expect(Math.abs(seconds(pack.expires_at) - (now + 14 * DAY_S))).toBeLessThan(PROMPT_S);
  await advance('week', 'week');
  expect((await late.client.billing.getState()).trial_pack.active).toBe(false);
  // A command lives in the same time: by real time this pack would still be good, and be given back its credit.
  const compared = await promisify(execFile)(
    process.execPath,
    [CLI, 'reconcile', late.accountId, '--dry-run', '--json'],
    { env: { PATH: process.env['PATH'] ?? '', DATA_DIR: dataDir } },
  );
  expect(JSON.parse(compared.stdout)).toMatchObject({ checked: 1, differing: [], failed: [] });
  expect((await mails(late)).map(({ template }) => template)).toEqual(
    expect.arrayContaining(['trial_pack_ready', 'credit_expiring', 'trial_pack_expired']),
  );
}, 120_000);

async function customerOf({ accountId }: Customer): Promise<string> {
  const { rows } = await database.query<{ id: string }>(
    'select stripe_customer_id as id from account where id = $1',
    [accountId.slice('acc_'.length)],
  );
  return rows[0]?.id ?? '';
}

type Expected = readonly [templates: string, at: number, data?: Record<string, number>];

/** The mails to a customer, each written when it had to be, with the dates it had to tell. */
async function expectStory(customer: Customer, expected: readonly Expected[]): Promise<void> {
  const told = await mails(customer);
  const line = (template: string, at: number): string =>
    `${new Date(at * 1_000).toISOString().slice(0, 10)} ${template}`;
  expect(
    told.map(({ template, at }, index) => {
      const [templates, due] = expected[index] ?? ['', 0];
      const prompt = at >= due && at < due + PROMPT_S;
      return line(templates.split('|').includes(template) ? templates : template, prompt ? due : at);
    }),
  ).toEqual(expected.map(([templates, due]) => line(templates, due)));
  for (const [index, { data }] of told.entries()) {
    const dates = expected[index]?.[2] ?? {};
    const found = Object.keys(dates).map((name) => {
      const value = data[name];
      return [name, typeof value === 'number' ? value : seconds(value)];
    });
    expect(Object.fromEntries(found)).toEqual(dates);
  }
}

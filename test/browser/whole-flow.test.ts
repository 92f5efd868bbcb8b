import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { launchBrowser, openWindow, type Visit } from '../../server/local-stripe/test/support/browser.ts';
import { Driftstack } from '../../shared/client.ts';
import { type Service, startService, untilTrue } from '../support/service.ts';

let browser: Browser;
let dataDir: string;
let service: Service;
let visits: Visit[] = [];

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'driftstack-flow-'));
  [browser, service] = await Promise.all([launchBrowser(), startService(dataDir)]);
});
afterEach(async () => {
  for (const visit of visits) {
    expect(visit.complaints).toEqual([]);
    await visit.context.close();
  }
  visits = [];
});
afterAll(async () => {
  await browser.close();
  expect(await service.stop()).toBe(0);
  await rm(dataDir, { recursive: true });
});

const client = () => new Driftstack({ apiKey: service.apiKey, baseUrl: service.apiUrl });

async function visit(url: string): Promise<Visit['page']> {
  const opened = await openWindow(browser, { width: 380, origins: [service.stripeUrl] });
  visits.push(opened);
  await opened.page.goto(url);
  return opened.page;
}

/** The payload of the newest `subscription.tier_changed`. */
async function lastTierChange(): Promise<unknown> {
  const { data } = await client().auditLog.list({ action: 'subscription.tier_changed', limit: 1 });
  return data[0]?.payload;
}

/** Waits for a mail whose line in the mailbox reads like this. */
async function untilMail(pattern: RegExp): Promise<void> {
  await untilTrue(async () => pattern.test(await (await fetch(`${service.stripeUrl}/mailbox`)).text()));
}

it('takes a newcomer from nothing to a paid subscription', async () => {
  const billing = client().billing;
  expect(await billing.getState()).toEqual({
    subscription: null,
    trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
  });

  const { checkout_url, checkout_session_id } = await billing.startCheckoutSession({
    tier: 'api_builder',
    billing_period: 'monthly',
  });
  const page = await visit(checkout_url);
  await page.getByRole('button', { name: /^Success/ }).click();
  await page.getByRole('button', { name: /^Pay \$99/ }).click();
  await page.waitForURL('**/app/success**');
  expect(new URL(page.url()).searchParams.get('session_id')).toBe(checkout_session_id);

  // The success page reads its own purchase and waits for no webhook.
  const { subscription } = await billing.getState({ checkout_session_id });
  expect(subscription).toEqual({
    id: expect.stringMatching(/^sub_[0-9a-f-]{36}$/),
    tier: 'api_builder',
    status: 'active',
    billing_period: 'monthly',
    current_period_start: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    current_period_end: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    cancel_at_period_end: false,
  });
  expect(await lastTierChange()).toMatchObject({ from: null, to: 'api_builder' });
  await untilMail(/API Builder subscription has started/);
  await untilMail(/Receipt for \$99\.00/);
});

it('follows an upgrade, a downgrade, a cancellation and its undoing in the portal', async () => {
  const { portal_url } = await client().billing.startPortalSession();
  const page = await visit(portal_url);
  const choosePlan = async (name: RegExp): Promise<void> => {
    await page.getByRole('link', { name: 'Change plan' }).first().click();
    await page.getByRole('radio', { name }).check();
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.locator('#confirm').click();
  };
  const state = async () => (await client().billing.getState()).subscription;

  await choosePlan(/API Scale \$399\./);
  await untilTrue(async () => (await state())?.tier === 'api_scale');
  expect(await lastTierChange()).toMatchObject({ from: 'api_builder', to: 'api_scale' });
  await untilMail(/API Scale/);

  await choosePlan(/API Starter \$29\./);
  const actions = async () => (await client().auditLog.list()).data.map(({ action }) => action);
  await untilTrue(async () => (await actions()).includes('subscription.tier_change_scheduled'));
  expect((await state())?.tier).toBe('api_scale');
  await page.locator('#undo-change').click();
  await untilTrue(async () => (await actions()).includes('subscription.tier_change_unscheduled'));

  await page.getByRole('link', { name: 'Cancel subscription' }).click();
  await page.getByRole('button', { name: 'Cancel subscription' }).click();
  await untilTrue(async () => (await state())?.cancel_at_period_end === true);
  expect((await state())?.status).toBe('active');
  await page.getByRole('button', { name: 'Keep my subscription' }).click();
  await untilTrue(async () => (await state())?.cancel_at_period_end === false);
  expect(await actions()).toEqual(
    expect.arrayContaining(['subscription.cancel_scheduled', 'subscription.cancel_unscheduled']),
  );
  for (const subject of [
    /Your plan changes on /,
    /The booked change of your plan was called off/,
    /Your subscription ends on /,
    /Your subscription is no longer set to end/,
  ]) {
    await untilMail(subject);
  }
});

it('sells the trial pack once', async () => {
  const { billing } = client();
  const { checkout_url, checkout_session_id } = await billing.startTrialPack();
  const page = await visit(checkout_url);
  await page.getByRole('button', { name: /^Success/ }).click();
  await page.getByRole('button', { name: /^Pay \$2\.99/ }).click();
  await page.waitForURL('**/app/success**');

  const { trial_pack } = await billing.getState({ checkout_session_id });
  expect(trial_pack).toMatchObject({ active: true, credit_cents_remaining: 299, redeemed: true });
  const days = (Date.parse(trial_pack.expires_at ?? '') - Date.now()) / 86_400_000;
  expect(days).toBeGreaterThan(13.9);
  expect(days).toBeLessThanOrEqual(14);
  await expect(billing.startTrialPack()).rejects.toMatchObject({
    status: 409,
    code: 'trial_pack_already_redeemed',
  });
  await expect(
    billing.startCheckoutSession({ tier: 'api_starter', billing_period: 'annual' }),
  ).rejects.toMatchObject({ status: 409, code: 'already_subscribed' });
});

it('keeps everything when it is killed, and catches up with what Stripe did meanwhile', async () => {
  const before = await client().billing.getState();
  const { portal_url } = await client().billing.startPortalSession();
  const page = await visit(portal_url);
  await page.getByRole('link', { name: 'Cancel subscription' }).click();
  await page.getByRole('button', { name: 'Cancel subscription' }).click();
  await page.getByRole('button', { name: 'Keep my subscription' }).waitFor();
  // Whatever of the cancellation has arrived by now: delivered, stored, half processed, or nothing.
  // The page's own script would complain about what comes now.
  await page.close();
  await service.kill();
  const { apiKey } = service;
  service = await startService(dataDir);
  const earlier = new Driftstack({ apiKey, baseUrl: service.apiUrl });
  await untilTrue(
    async () => (await earlier.billing.getState()).subscription?.cancel_at_period_end === true,
    30_000,
  );
  const after = await earlier.billing.getState();
  expect(after.subscription).toEqual({ ...before.subscription, cancel_at_period_end: true });
  expect(after.trial_pack).toEqual(before.trial_pack);
  const { data } = await earlier.auditLog.list({ action: 'subscription.cancel_scheduled' });
  expect(data).toHaveLength(2);
});

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { Browser } from 'playwright-core';
import { Resend } from 'resend';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { launchBrowser, openWindow, type Visit } from '../support/browser.ts';
import { newPortal, openShop, type Shop } from '../support/shop.ts';

let browser: Browser;
let local: Shop;
let receiver: Server;
let received: string[];
let visit: Visit;

beforeAll(async () => {
  received = [];
  receiver = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      received.push(String(JSON.parse(body).type));
      response.end('ok');
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  [browser, local] = await Promise.all([launchBrowser(), openShop()]);
  const address = receiver.address();
  const port = typeof address === 'object' ? address?.port : 0;
  await local.stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${port}/webhooks/stripe`,
    enabled_events: ['customer.created', 'invoice.paid', 'invoice.payment_failed'],
  });
});
afterAll(async () => {
  await browser.close();
  await local.close();
  receiver.closeAllConnections();
  receiver.close();
});
beforeEach(async () => {
  visit = await openWindow(browser, { origins: [local.localStripe.url] });
});
afterEach(async () => {
  expect(visit.complaints).toEqual([]);
  await visit.context.close();
});

const resend = (): Resend => new Resend('re_test_1', { baseUrl: local.localStripe.url });
const arrivals = (type: string): number => received.filter((one) => one === type).length;

describe('the console in a browser', () => {
  it('shows what happens without a reload', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/`);
    await page.waitForURL('**/console');
    await local.stripe.customers.create({ email: 'live@example.test' });
    await page.locator('#customers', { hasText: 'live@example.test' }).waitFor();
    await page.locator('#events', { hasText: 'customer.created' }).waitFor();
    expect(await page.locator('#accounts').textContent()).toContain('runs alone');
  });

  it('sends a webhook again', async () => {
    const { page } = visit;
    await local.stripe.customers.create({ email: 'again@example.test' });
    await page.goto(`${local.localStripe.url}/console`);
    const row = page.locator('#events li', { hasText: 'customer.created' }).first();
    await row.locator('.tag', { hasText: 'succeeded' }).waitFor();
    const before = arrivals('customer.created');
    await row.getByRole('button', { name: 'Resend' }).click();
    await expect.poll(() => arrivals('customer.created')).toBe(before + 1);
  });

  it('loses the next webhook when told to', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    await page.locator('#webhooks-kind').selectOption('drop');
    await page.locator('#webhooks-set').click();
    await page.locator('#faults', { hasText: '1 webhook: be lost' }).waitFor();
    const before = arrivals('customer.created');
    await local.stripe.customers.create({ email: 'lost@example.test' });
    await page.locator('#events .tag', { hasText: 'dropped' }).first().waitFor();
    await page.locator('#faults', { hasText: 'Nothing is ordered' }).waitFor();
    expect(arrivals('customer.created')).toBe(before);
  });

  it('makes the next API call fail, and takes an order back', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    await page.locator('#api-kind').selectOption('error');
    await page.locator('#api-count').fill('1');
    await page.locator('#api-set').click();
    await page.locator('#faults', { hasText: '1 API call' }).waitFor();
    const list = (): Promise<unknown> => local.stripe.customers.list({}, { maxNetworkRetries: 0 });
    await expect(list()).rejects.toThrow(/ordered from the local Stripe/);
    await page.locator('#api-set').click();
    await page.locator('#faults', { hasText: '1 API call' }).waitFor();
    await page.locator('#faults-clear').click();
    await page.locator('#faults', { hasText: 'Nothing is ordered' }).waitFor();
    await expect(list()).resolves.toBeDefined();
  });

  it('moves the clock: a month renews the subscription, and a failed payment shows', async () => {
    const { page } = visit;
    const { customer, subscription } = await newPortal(local);
    await page.goto(`${local.localStripe.url}/console`);
    const before = await local.stripe.subscriptions.retrieve(subscription);
    await page.locator(`#fail-${customer}`).click();
    await page.locator('#by-month').click();
    await page.locator('#by-day').click();
    await page.locator('#customers .tag', { hasText: 'past due' }).first().waitFor();
    const after = await local.stripe.subscriptions.retrieve(subscription);
    expect(after.status).toBe('past_due');
    expect(after.items.data[0]?.current_period_start).toBe(before.items.data[0]?.current_period_end);
    await expect.poll(() => arrivals('invoice.payment_failed')).toBe(1);
  });

  it('moves a test clock by itself', async () => {
    const frozen_time = Date.parse('2030-01-31T00:00:00Z') / 1000;
    const { id } = await local.stripe.testHelpers.testClocks.create({ frozen_time, name: 'January' });
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    await page.locator(`#${id}-month`).click();
    await page.getByText('2030-02-28 00:00:00 UTC').waitFor();
    expect(await local.stripe.testHelpers.testClocks.retrieve(id)).toMatchObject({ status: 'ready' });
  });

  it('refuses to move the clock for another web site', async () => {
    const before = local.localStripe.world.now();
    const answer = await fetch(`${local.localStripe.url}/console/clock`, {
      method: 'POST',
      headers: { 'sec-fetch-site': 'cross-site', 'content-type': 'application/x-www-form-urlencoded' },
      body: 'by=year',
    });
    expect(answer.status).toBe(403);
    expect(local.localStripe.world.now() - before).toBeLessThan(60);
  });
});

describe('the console beside a product', () => {
  it("shows the product's accounts, audit log, mails and work, and says when it does not answer", async () => {
    const product = createServer((request, response) => {
      const known =
        request.url === '/internal/console/accounts' && request.headers.authorization === 'Bearer internal';
      response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' });
      response.end(known ? JSON.stringify(OVERVIEW) : '{}');
    }).listen(0, '127.0.0.1');
    await once(product, 'listening');
    const address = product.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const beside = await openShop({ baseUrl: `http://127.0.0.1:${port}`, token: 'internal' });
    const seen = await openWindow(browser, { origins: [beside.localStripe.url] });
    try {
      await seen.page.goto(`${beside.localStripe.url}/console`);
      const accounts = seen.page.locator('#accounts');
      expect(await accounts.textContent()).toContain('<i>ada</i>@example.test');
      expect(await accounts.textContent()).toContain('subscription.tier_changed');
      expect(await accounts.textContent()).toContain('to: api_builder');
      expect(await seen.page.locator('#work').textContent()).toContain('Stripe did not answer');
      product.closeAllConnections();
      product.close();
      await accounts.filter({ hasText: 'does not answer' }).waitFor();
      expect(seen.complaints).toEqual([]);
    } finally {
      await seen.context.close();
      await beside.close();
      product.close();
    }
  });
});

const AT = '2026-05-01T00:00:00Z';
const OVERVIEW = {
  accounts: [
    {
      account_id: 'acc_0190a1b2',
      email: '<i>ada</i>@example.test',
      stripe_customer_id: 'cus_1',
      billing_state: {
        subscription: {
          id: 'sub_1',
          tier: 'api_builder',
          status: 'active',
          billing_period: 'monthly',
          current_period_start: AT,
          current_period_end: AT,
          cancel_at_period_end: false,
        },
        trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
      },
      audit: [
        {
          id: '1',
          action: 'subscription.tier_changed',
          payload: { from: null, to: 'api_builder' },
          timestamp: AT,
          actor_type: 'system',
        },
      ],
      emails: [{ template: 'receipt', state: 'sent', created_at: AT }],
    },
  ],
  waiting: [{ what: 'mails', state: 'due', count: 3 }],
  events: [
    { id: 'evt_1', type: 'invoice.paid', state: 'failed', error: 'Stripe did not answer', received_at: AT },
  ],
};

describe('the mailbox in a browser', () => {
  it('shows a mail as it arrives, as HTML without scripts, as text and as source', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/mailbox`);
    await resend().emails.send({
      from: 'Driftstack <billing@driftstack.test>',
      to: 'ada@example.test',
      subject: 'Receipt <b>1</b>',
      html: '<p id="hello">Paid</p><form action="/mailbox/clear" method="post"><button>x</button></form>',
      text: 'Paid in text',
    });
    await page.getByRole('link', { name: 'Receipt <b>1</b>' }).click();
    const frame = page.frameLocator('iframe');
    expect(await frame.locator('#hello').textContent()).toBe('Paid');
    const body = await page.request.get(`${page.url()}/body`);
    expect(body.headers()['content-security-policy']).toContain('sandbox allow-popups');
    expect(body.headers()['content-security-policy']).toContain("default-src 'none'");
    await page.getByRole('link', { name: 'Text', exact: true }).click();
    expect(await page.locator('pre').textContent()).toBe('Paid in text');
    await page.getByRole('link', { name: 'Source' }).click();
    expect(await page.locator('pre').textContent()).toContain('multipart/alternative');
    await page.getByRole('button', { name: 'Clear all' }).click();
    await page.locator('#mails', { hasText: 'No mail yet' }).waitFor();
  });
});

import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import type { Browser, Page } from 'playwright-core';
import { Resend } from 'resend';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { launchBrowser, openWindow } from '../support/browser.ts';
import { newCheckout, newPortal, openShop, type Shop } from '../support/shop.ts';

const AUDIT = readFileSync(new URL('../support/page-audit.js', import.meta.url), 'utf8');
const auditResult = z.object({ problems: z.array(z.string()), lowest: z.number() });

let browser: Browser;
let local: Shop;

beforeAll(async () => {
  [browser, local] = await Promise.all([launchBrowser(), openShop()]);
  await new Resend('re_test_1', { baseUrl: local.localStripe.url }).emails.send({
    from: 'Driftstack <billing@driftstack.test>',
    to: 'someone.with.a.very.long.address@a.rather.long.domain.example.test',
    subject: 'AVeryLongSubjectWithoutAnySpaceInItThatStillHasToFitIntoANarrowWindow',
    html: '<p>Hello</p>',
    text: 'x'.repeat(300),
  });
});
afterAll(async () => {
  await browser.close();
  await local.close();
});

/** Every page, each in the state that shows the most. */
async function everyPage(page: Page, look: (name: string) => Promise<void>): Promise<void> {
  const { stripe, localStripe } = local;
  const visit = async (name: string, url: string): Promise<void> => {
    await page.goto(url);
    await look(name);
  };
  const session = await newCheckout(local);
  await visit('checkout', session.url);
  await page.getByRole('button', { name: 'Declined' }).click();
  await page.locator('#pay').click();
  await page.getByRole('alert').waitFor();
  await look('checkout, declined');
  await page.locator('#number').fill('1');
  await page.locator('#pay').click();
  await page.locator('#number-error').waitFor();
  await look('checkout, wrong fields');
  await page.getByRole('button', { name: '3D Secure' }).click();
  await page.locator('#pay').click();
  await page.waitForURL('**/authenticate');
  await look('bank');
  await page.getByRole('button', { name: 'Complete' }).click();
  await page.waitForURL('**/app/success**');
  await look('application, success');
  await visit('checkout, paid', session.url);
  const old = await newCheckout(local);
  await stripe.checkout.sessions.expire(old.id);
  await visit('checkout, expired', old.url);

  const portal = await newPortal(local);
  const draft = await stripe.invoices.create({
    customer: portal.customer,
    collection_method: 'send_invoice',
    days_until_due: 7,
  });
  await stripe.invoiceItems.create({
    customer: portal.customer,
    invoice: draft.id ?? '',
    amount: 500,
    currency: 'usd',
  });
  const invoice = await stripe.invoices.finalizeInvoice(draft.id ?? '');
  await visit('portal', portal.url);
  const home = page.url();
  await visit('plans', `${home}/plans`);
  await visit('upgrade', `${home}/plan?price=${local.prices.scale}`);
  await visit('downgrade', `${home}/plan?price=${local.prices.starter}`);
  await page.locator('#confirm').click();
  await page.waitForURL('**done=scheduled');
  await look('portal, change booked');
  await visit('payment method', `${home}/payment-method`);
  await visit('cancel', `${home}/cancel`);
  await page.locator('#cancel').click();
  await page.waitForURL('**done=canceled');
  await look('portal, cancelled');
  await visit('portal link used', portal.url);
  await visit('invoice', invoice.hosted_invoice_url ?? '');

  for (const path of ['/console', '/mailbox', '/app/cancel', '/app/account', '/c/pay/cs_test_1'])
    await visit(path, `${localStripe.url}${path}`);
  await page.goto(`${localStripe.url}/mailbox`);
  await page.locator('.mails a').first().click();
  for (const view of ['html', 'text', 'source'])
    await visit(`mail as ${view}`, `${page.url().split('?')[0]}?view=${view}`);
}

describe.each([
  { width: 1280, dark: false },
  { width: 380, dark: false },
  { width: 1280, dark: true },
  { width: 380, dark: true },
])('at $width px, dark: $dark', ({ width, dark }) => {
  it('every page fits, is labelled, has contrast, and asks no other address for anything', async () => {
    const visit = await openWindow(browser, { width, height: 800, dark, origins: [local.localStripe.url] });
    const found: string[] = [];
    let pages = 0;
    await everyPage(visit.page, async (name) => {
      pages++;
      const audit = auditResult.parse(await visit.page.evaluate(AUDIT));
      found.push(...audit.problems.map((problem) => `${name}: ${problem}`));
    });
    expect(found).toEqual([]);
    expect(visit.complaints).toEqual([]);
    expect(pages).toBeGreaterThan(20);
    await visit.context.close();
  });
});

describe('every page', () => {
  it('is refused under a name that somebody else pointed at this machine', async () => {
    const { status } = await new Promise<{ status: number | undefined }>((resolve, reject) => {
      get(`${local.localStripe.url}/console`, { headers: { host: 'rebound.example.test' } }, (answer) => {
        answer.resume();
        resolve({ status: answer.statusCode });
      }).on('error', reject);
    });
    expect(status).toBe(403);
  });

  it.each(['/console', '/mailbox', '/app/success', '/c/pay/none', '/p/session/none', '/i/none'])(
    '%s comes with a policy that allows nothing inline and nothing from elsewhere',
    async (path) => {
      const answer = await fetch(`${local.localStripe.url}${path}`);
      const policy = answer.headers.get('content-security-policy') ?? '';
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
      expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    },
  );
});

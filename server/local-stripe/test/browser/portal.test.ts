import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { launchBrowser, openWindow, type Visit } from '../support/browser.ts';
import { newPortal, openShop, type Shop } from '../support/shop.ts';

let browser: Browser;
let local: Shop;
let visit: Visit;

beforeAll(async () => {
  [browser, local] = await Promise.all([launchBrowser(), openShop()]);
});
afterAll(async () => {
  await browser.close();
  await local.close();
});
beforeEach(async () => {
  visit = await openWindow(browser, { origins: [local.localStripe.url] });
});
afterEach(async () => {
  expect(visit.complaints).toEqual([]);
  await visit.context.close();
});

const click = (role: 'button' | 'link', name: string): Promise<void> =>
  visit.page.getByRole(role, { name }).first().click();
const choosePlan = async (name: RegExp): Promise<void> => {
  await click('link', 'Change plan');
  await visit.page.getByRole('radio', { name }).check();
  await click('button', 'Continue');
};
const said = (): Promise<string | null> => visit.page.getByRole('status').first().textContent();

describe('the customer portal in a browser', () => {
  it('opens a link once and explains itself the second time', async () => {
    const { url } = await newPortal(local);
    const { page } = visit;
    await page.goto(url);
    expect(await page.locator('h1').textContent()).toBe('Your subscription');
    await page.reload();
    expect(await page.locator('h1').textContent()).toBe('Your subscription');
    const again = await page.goto(url);
    expect(again?.status()).toBe(401);
    expect(await page.locator('h1').textContent()).toBe('Please open the portal again');
    expect(await page.locator('main').textContent()).toContain('portal-session');
  });

  it('does not open a link older than five minutes', async () => {
    const { url } = await newPortal(local);
    local.localStripe.world.skip(301);
    await visit.page.goto(url);
    expect(await visit.page.locator('h1').textContent()).toBe('Please open the portal again');
  });

  it('keeps the link for the person when a link checker asks first', async () => {
    const { url } = await newPortal(local);
    await fetch(url, { method: 'HEAD' });
    await visit.page.goto(url);
    expect(await visit.page.locator('h1').textContent()).toBe('Your subscription');
  });

  it('cancels at the end of the period, and undoes it', async () => {
    const { url, subscription } = await newPortal(local);
    await visit.page.goto(url);
    await click('link', 'Cancel subscription');
    await click('button', 'Cancel subscription');
    expect(await said()).toContain('cancelled');
    const ending = await local.stripe.subscriptions.retrieve(subscription);
    expect(ending.status).toBe('active');
    expect(ending.cancel_at).toBe(ending.items.data[0]?.current_period_end);
    await click('button', 'Keep my subscription');
    expect(await said()).toContain('The cancellation was undone.');
    expect((await local.stripe.subscriptions.retrieve(subscription)).cancel_at).toBeNull();
  });

  it('upgrades at once and charges what the preview said', async () => {
    const { url, subscription, customer } = await newPortal(local);
    const { page } = visit;
    await page.goto(url);
    await choosePlan(/API Scale/);
    const due = await page.locator('#due').textContent();
    await page.locator('#confirm').click();
    expect(await said()).toContain('changed');
    const after = await local.stripe.subscriptions.retrieve(subscription);
    expect(after.items.data[0]?.price.id).toBe(local.prices.scale);
    const { data: charges } = await local.stripe.charges.list({ customer });
    expect(charges).toHaveLength(2);
    expect(`$${((charges[0]?.amount ?? 0) / 100).toFixed(2)}`).toBe(due);
  });

  it('books a downgrade for the end of the period, shows it, and undoes it', async () => {
    const { url, subscription, customer } = await newPortal(local);
    const { page } = visit;
    await page.goto(url);
    await choosePlan(/API Starter/);
    expect(await page.locator('main').textContent()).toContain('Nothing is charged today');
    await page.locator('#confirm').click();
    expect(await said()).toContain('booked');
    const booked = await local.stripe.subscriptions.retrieve(subscription);
    expect(booked.items.data[0]?.price.id).toBe(local.prices.builder);
    expect(booked.schedule).not.toBeNull();
    expect(await page.locator('main').textContent()).toContain('Changes to API Starter');
    await page.locator('#undo-change').click();
    await page.waitForURL('**done=stays');
    expect(await said()).toContain('You stay on your present plan.');
    expect((await local.stripe.subscriptions.retrieve(subscription)).schedule).toBeNull();
    const { data: charges } = await local.stripe.charges.list({ customer });
    expect(charges).toHaveLength(1);
  });

  it('changes nothing when the upgrade is declined, and says so', async () => {
    const { url, subscription } = await newPortal(local);
    const { page } = visit;
    await page.goto(url);
    await click('link', 'Add a payment method');
    await click('button', 'Fails later');
    await page.locator('#save').click();
    expect(await said()).toContain('payment method');
    await choosePlan(/API Scale/);
    await page.locator('#confirm').click();
    expect(await page.getByRole('alert').textContent()).toContain('Nothing was changed');
    const after = await local.stripe.subscriptions.retrieve(subscription);
    expect(after.items.data[0]?.price.id).toBe(local.prices.builder);
  });

  it('asks the bank in an upgrade with a 3D Secure card', async () => {
    const { url, subscription } = await newPortal(local);
    const { page } = visit;
    await page.goto(url);
    await click('link', 'Add a payment method');
    await click('button', '3D Secure');
    await page.locator('#save').click();
    // The bank is asked when the card is kept, and once more for the payment.
    await click('button', 'Complete');
    await choosePlan(/API Scale/);
    await page.locator('#confirm').click();
    await page.waitForURL('**/authenticate/**');
    await click('button', 'Complete');
    expect(await said()).toContain('changed');
    const after = await local.stripe.subscriptions.retrieve(subscription);
    expect(after).toMatchObject({ status: 'active' });
    expect(after.items.data[0]?.price.id).toBe(local.prices.scale);
  });

  it('adds a payment method as the default, and makes the old one the default again', async () => {
    const { url, customer } = await newPortal(local);
    const { page } = visit;
    const defaultMethod = async (): Promise<unknown> => {
      const found = await local.stripe.customers.retrieve(customer);
      return found.deleted ? null : found.invoice_settings.default_payment_method;
    };
    const before = await defaultMethod();
    await page.goto(url);
    await click('link', 'Add a payment method');
    await click('button', 'Success');
    await page.locator('#save').click();
    expect(await said()).toContain('payment method');
    expect(await defaultMethod()).not.toBe(before);
    await click('button', 'Make default');
    await page.waitForURL('**done=method');
    expect(await defaultMethod()).toBe(before);
  });

  it('shows invoices, and an open one can be paid on its page', async () => {
    const { url, customer } = await newPortal(local);
    const draft = await local.stripe.invoices.create({
      customer,
      collection_method: 'send_invoice',
      days_until_due: 7,
    });
    await local.stripe.invoiceItems.create({
      customer,
      invoice: draft.id ?? '',
      amount: 500,
      currency: 'usd',
    });
    const invoice = await local.stripe.invoices.finalizeInvoice(draft.id ?? '');
    const { page } = visit;
    await page.goto(url);
    const [tab] = await Promise.all([
      visit.context.waitForEvent('page'),
      page.getByRole('link', { name: /^Pay invoice/ }).click(),
    ]);
    await tab.waitForLoadState();
    expect(tab.url()).toBe(invoice.hosted_invoice_url);
    await tab.getByRole('button', { name: 'Declined' }).click();
    await tab.locator('#pay').click();
    expect(await tab.getByRole('alert').textContent()).toContain('declined');
    await tab.getByRole('button', { name: 'Success' }).click();
    await tab.locator('#pay').click();
    await tab.locator('#pay').waitFor({ state: 'detached' });
    expect((await local.stripe.invoices.retrieve(invoice.id ?? '')).status).toBe('paid');
    const pdf = await fetch(invoice.invoice_pdf ?? '');
    expect([pdf.status, pdf.headers.get('content-type')]).toEqual([200, 'application/pdf']);
    expect(
      Buffer.from(await pdf.arrayBuffer())
        .subarray(0, 5)
        .toString(),
    ).toBe('%PDF-');
  });

  it('leads back to the application', async () => {
    const { url } = await newPortal(local);
    await visit.page.goto(url);
    await click('link', 'Back to the application');
    await visit.page.waitForURL('**/app/account');
  });
});

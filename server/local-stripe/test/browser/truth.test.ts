import type { Browser } from 'playwright-core';
import { Resend } from 'resend';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { launchBrowser, openWindow, type Visit } from '../support/browser.ts';
import { newCheckout, newPortal, openShop, type Shop } from '../support/shop.ts';

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
  visit = await openWindow(browser, { width: 380, origins: [local.localStripe.url] });
});
afterEach(async () => {
  expect(visit.complaints).toEqual([]);
  await visit.context.close();
});

describe('what an action came to', () => {
  it('stands beside the button that was pressed, also when what surrounds it is drawn anew, and is read aloud', async () => {
    const { page } = visit;
    const { customer } = await newPortal(local);
    await page.goto(`${local.localStripe.url}/console`);
    const button = page.locator(`#fail-${customer}`);
    await button.click();
    const words = page.locator(`#fail-${customer} + .said`);
    await words.filter({ hasText: 'Its next payment will fail.' }).waitFor();
    // The panel has been drawn anew by now: it says itself that the order stands.
    await page.locator('#customers', { hasText: 'the next one will fail' }).waitFor();
    expect(await words.isVisible()).toBe(true);
    const [at, beside] = [await button.boundingBox(), await words.boundingBox()];
    expect(Math.abs((at?.y ?? 0) - (beside?.y ?? 1_000))).toBeLessThan(60);
    await page.getByRole('status').filter({ hasText: 'Its next payment will fail.' }).waitFor({
      state: 'attached',
    });
    await words.waitFor({ state: 'detached' });
  });

  it('is said where something could not be done, also while the page is paused', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.evaluate("document.querySelector('#webhooks-kind option').value = 'nonsense'");
    await page.locator('#webhooks-set').click();
    await page.locator('#webhooks-set + .said.bad', { hasText: 'Choose a fault' }).waitFor();
  });

  it('is no claim to be live once it is paused', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    const state = page.locator('[data-live-state]');
    await state.filter({ hasText: 'Live' }).waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    expect(await state.textContent()).toBe('Paused');
    await local.stripe.customers.create({ email: 'unseen@example.test' });
    await page.waitForResponse(() => true, { timeout: 1_500 }).catch(() => null);
    expect(await state.textContent()).toBe('Paused');
    expect(await page.locator('#customers').textContent()).not.toContain('unseen@example.test');
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.locator('#customers', { hasText: 'unseen@example.test' }).waitFor();
    expect(await state.textContent()).toBe('Live');
  });

  it('shows how far a long move of the clock has come, and stops it', async () => {
    const { page } = visit;
    await page.goto(`${local.localStripe.url}/console`);
    let settled = false;
    local.localStripe.clock.follow({ settle: async () => settled, nextDue: async () => null });
    await page.locator('#by-year').click();
    await page.locator('#clock-progress').waitFor();
    // Taken in before the move can go on, which has nothing else to stop for.
    const stopped = page.waitForResponse((answer) => answer.request().method() === 'POST');
    await page.locator('#clock-stop').click();
    await stopped;
    settled = true;
    await page.locator('#clock', { hasText: 'Stopped on the way to' }).waitFor();
  });
});

it('shows every moment on the console with its day', async () => {
  const { page } = visit;
  await newPortal(local);
  await new Resend('re_test_1', { baseUrl: local.localStripe.url }).emails.send({
    from: 'billing@driftstack.test',
    to: 'ada@example.test',
    subject: 'Dated',
    text: 'Dated',
  });
  await fetch(`${local.localStripe.url}/receiver/200`, { method: 'POST', body: '{}' });
  await page.goto(`${local.localStripe.url}/console`);
  const times = await page.locator('main time').allTextContents();
  expect(times.length).toBeGreaterThan(5);
  expect(times.filter((time) => !/^\d{4}-\d\d-\d\d ?\d\d:\d\d:\d\d$/.test(time.trim()))).toEqual([]);
});

it('opens a tapped mail in view on a phone, and leads back to the list', async () => {
  const { page } = visit;
  const { error } = await new Resend('re_test_1', { baseUrl: local.localStripe.url }).batch.send(
    Array.from({ length: 12 }, (_, at) => ({
      from: 'billing@driftstack.test',
      to: 'ada@example.test',
      subject: `Mail ${at + 1}`,
      html: `<p>Mail ${at + 1}</p>`,
    })),
  );
  expect(error).toBeNull();
  await page.goto(`${local.localStripe.url}/mailbox`);
  await page
    .locator('.mails a')
    .filter({ has: page.getByText('Mail 1', { exact: true }) })
    .click();
  const heading = page.getByRole('heading', { name: 'Mail 1', exact: true });
  await heading.waitFor();
  expect((await heading.boundingBox())?.y).toBeLessThan(700);
  await page.getByRole('link', { name: 'All mails' }).click();
  await page.getByRole('link', { name: 'Mail 12' }).waitFor();
});

describe('test cards', () => {
  it('are named after what happens where they are used', async () => {
    const { page } = visit;
    await page.goto((await newCheckout(local)).url);
    expect(await page.locator('#tests').textContent()).toBe('Test cards and accounts');
    await page.getByRole('button', { name: 'Cannot be charged' }).click();
    await page.locator('#pay').click();
    await page.getByRole('alert').filter({ hasText: 'declined' }).waitFor();
    // Another number of Stripe's documentation, which no button offers: the page says that it can be typed.
    await page.getByText('Further test numbers of Stripe’s documentation can be typed in').waitFor();
    await page.locator('#number').fill('5555555555554444');
    await page.locator('#pay').click();
    await page.waitForURL('**/app/success**');
  });

  it('that fails later is kept by the portal and fails at the renewal', async () => {
    const { page } = visit;
    const { url, subscription } = await newPortal(local);
    await page.goto(url);
    await page.getByRole('link', { name: 'Add a payment method' }).click();
    await page.getByRole('button', { name: 'Fails later' }).click();
    await page.locator('#save').click();
    await page.getByRole('status').filter({ hasText: 'used from now on' }).waitFor();
    await local.localStripe.clock.move(local.localStripe.world.now() + 32 * 86_400);
    expect((await local.stripe.subscriptions.retrieve(subscription)).status).toBe('past_due');
  });
});

describe('a card that asks the bank', () => {
  const add3ds = async (url: string): Promise<void> => {
    const { page } = visit;
    await page.goto(url);
    await page.getByRole('link', { name: 'Add a payment method' }).click();
    await page.getByRole('button', { name: '3D Secure' }).click();
    await page.locator('#save').click();
    await page.getByRole('heading', { name: 'Your bank asks' }).waitFor();
  };

  it('asks it when it is added in the portal, and is kept once the bank agreed', async () => {
    const { page } = visit;
    const { url, customer } = await newPortal(local);
    await add3ds(url);
    const before = await local.stripe.customers.listPaymentMethods(customer);
    expect(before.data.map(({ card }) => card?.last4)).toEqual(['4242']);
    await page.getByRole('button', { name: 'Complete' }).click();
    await page.getByRole('status').filter({ hasText: 'used from now on' }).waitFor();
    const after = await local.stripe.customers.retrieve(customer, {
      expand: ['invoice_settings.default_payment_method'],
    });
    expect(after).toMatchObject({
      invoice_settings: { default_payment_method: { card: { last4: '3184' } } },
    });
  });

  it('is not kept when the bank did not agree', async () => {
    const { page } = visit;
    const { url, customer } = await newPortal(local);
    await add3ds(url);
    await page.getByRole('button', { name: 'Fail' }).click();
    await page.getByRole('alert').filter({ hasText: 'was not kept' }).waitFor();
    const { data } = await local.stripe.customers.listPaymentMethods(customer);
    expect(data.map(({ card }) => card?.last4)).toEqual(['4242']);
    // The page that says so takes another one.
    await page.getByRole('button', { name: 'Fails later' }).click();
    await page.locator('#save').click();
    await page.getByRole('status').filter({ hasText: 'used from now on' }).waitFor();
    const after = await local.stripe.customers.listPaymentMethods(customer);
    expect(after.data.map(({ card }) => card?.last4)).toContain('0341');
  });

  /** A renewal that waits for its customer, opened where the mail about it leads. */
  const openRenewal = async (): Promise<string> => {
    const { page } = visit;
    const { customer, subscription } = await newPortal(local);
    const method = await local.stripe.paymentMethods.attach('pm_card_authenticationRequired', { customer });
    await local.stripe.customers.update(customer, {
      invoice_settings: { default_payment_method: method.id },
    });
    await local.stripe.subscriptions.update(subscription, { default_payment_method: method.id });
    await local.localStripe.clock.move(local.localStripe.world.now() + 32 * 86_400);
    const { latest_invoice: invoice } = await local.stripe.subscriptions.retrieve(subscription, {
      expand: ['latest_invoice'],
    });
    const address = typeof invoice === 'object' ? (invoice?.hosted_invoice_url ?? '') : '';
    await page.goto(address);
    expect(await page.getByText('from Visa •••• 3184').isVisible()).toBe(true);
    await page.locator('#confirm').click();
    await page.getByRole('button', { name: 'Fail' }).click();
    await page.getByRole('alert').filter({ hasText: 'did not confirm' }).waitFor();
    expect((await local.stripe.subscriptions.retrieve(subscription)).status).toBe('past_due');
    return subscription;
  };

  it('lets a renewal be confirmed with one button, once more where the bank said no', async () => {
    const { page } = visit;
    const subscription = await openRenewal();
    await page.locator('#confirm').click();
    await page.getByRole('button', { name: 'Complete' }).click();
    await page.getByText('paid', { exact: true }).waitFor();
    expect((await local.stripe.subscriptions.retrieve(subscription)).status).toBe('active');
    expect(await page.locator('#confirm').count()).toBe(0);
  });

  it('lets a renewal be paid with another card where the bank said no', async () => {
    const { page } = visit;
    const subscription = await openRenewal();
    await page.getByRole('heading', { name: 'Or pay with another card' }).waitFor();
    await page.getByRole('button', { name: 'Success' }).click();
    await page.locator('#pay').click();
    await page.getByText('paid', { exact: true }).waitFor();
    expect((await local.stripe.subscriptions.retrieve(subscription)).status).toBe('active');
  });
});

it('calls the key by one name on the console, as the README does', async () => {
  const beside = await openShop({ baseUrl: 'http://127.0.0.1:9', token: 'x' });
  try {
    const page = await (await fetch(`${beside.localStripe.url}/console`)).text();
    expect(page).toContain('Bearer $KEY');
    expect(page).not.toContain('API_KEY');
  } finally {
    await beside.close();
  }
});

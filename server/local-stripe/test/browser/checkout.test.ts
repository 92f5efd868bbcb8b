import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { launchBrowser, openWindow, type Visit } from '../support/browser.ts';
import { newCheckout, openShop, type Shop } from '../support/shop.ts';

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

const fill = (name: string): Promise<void> =>
  visit.page.getByRole('button', { name, exact: false }).first().click();
const pay = (): Promise<void> => visit.page.locator('#pay').click();
const state = async (
  id: string,
): Promise<{ status: string | null; payment: string; subscription: unknown }> => {
  const session = await local.stripe.checkout.sessions.retrieve(id);
  return { status: session.status, payment: session.payment_status, subscription: session.subscription };
};

describe('Checkout in a browser', () => {
  it('shows what is bought, takes a test card and leads back with the session id', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    expect(await page.locator('h1').textContent()).toBe('Subscribe to API Builder');
    expect(await page.locator('main').textContent()).toMatch(/Charged today\s*\$99\.00/);
    expect(await page.locator('#email').inputValue()).toBe('ada@example.test');
    await fill('Success');
    expect(await page.locator('#number').inputValue()).toBe('4242 4242 4242 4242');
    await pay();
    await page.waitForURL(`${local.localStripe.url}/app/success?session_id=${session.id}`);
    expect(await page.locator('#session').textContent()).toBe(session.id);
    expect(await state(session.id)).toMatchObject({ status: 'complete', payment: 'paid' });
  });

  it('says why a card was declined and takes another one', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await fill('Insufficient funds');
    await pay();
    const refusal = page.getByRole('alert');
    expect(await refusal.textContent()).toContain('insufficient funds');
    expect(await page.locator(':focus').getAttribute('role')).toBe('alert');
    expect(await state(session.id)).toMatchObject({ status: 'open', payment: 'unpaid' });
    await fill('Success');
    await pay();
    await page.waitForURL('**/app/success**');
    expect(await state(session.id)).toMatchObject({ status: 'complete', payment: 'paid' });
  });

  it('asks the bank when the card wants 3D Secure, and goes on when it agrees', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await fill('3D Secure');
    await pay();
    await page.waitForURL('**/authenticate');
    expect(await state(session.id)).toMatchObject({ status: 'open', payment: 'unpaid' });
    await page.getByRole('button', { name: 'Complete' }).click();
    await page.waitForURL('**/app/success**');
    expect(await state(session.id)).toMatchObject({ status: 'complete', payment: 'paid' });
  });

  it('takes a US bank account, shows its fields alone, and is paid only when the money arrives', async () => {
    const session = await newCheckout(local, 'pack');
    const { page } = visit;
    await page.goto(session.url);
    expect(await page.locator('#routing').isVisible()).toBe(false);
    await fill('US bank account');
    expect(await page.locator('#number').isVisible()).toBe(false);
    expect(await page.locator('#account').inputValue()).toBe('000123456789');
    await pay();
    await page.waitForURL('**/app/success**');
    expect(await state(session.id)).toMatchObject({ status: 'complete', payment: 'unpaid' });
    const { payment_intent: intent } = await local.stripe.checkout.sessions.retrieve(session.id);
    await fetch(`${local.localStripe.url}/_sandbox/payment_intents/${intent}/settle`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ outcome: 'succeed' }),
    });
    expect(await state(session.id)).toMatchObject({ status: 'complete', payment: 'paid' });
  });

  it('stays unpaid when the bank refuses, and another card still works', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await fill('3D Secure');
    await pay();
    await page.getByRole('button', { name: 'Fail' }).click();
    expect(await page.getByRole('alert').textContent()).toContain('failed authentication');
    expect(await state(session.id)).toMatchObject({ status: 'open', payment: 'unpaid' });
    await fill('Success');
    await pay();
    await page.waitForURL('**/app/success**');
  });

  it('makes one purchase of a double click on Pay', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await fill('Success');
    await page.locator('#pay').dblclick();
    await page.waitForURL('**/app/success**');
    await onePurchase(session.customer);
  });

  it('makes one purchase of several forms sent at the same time', async () => {
    const session = await newCheckout(local);
    const body = new URLSearchParams({
      email: 'ada@example.test',
      method: 'card',
      number: '4242424242424242',
      expiry: '12 / 34',
      cvc: '123',
    });
    const answers = await Promise.all([1, 2, 3].map(() => fetch(session.url, { method: 'POST', body })));
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200]);
    await onePurchase(session.customer);
  });

  it('says that a paid session is paid, and leads on', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await fill('Success');
    await pay();
    await page.waitForURL('**/app/success**');
    await page.goto(session.url);
    expect(await page.locator('h1').textContent()).toBe('This is already paid');
    await page.getByRole('link', { name: 'Continue' }).click();
    await page.waitForURL(`**/app/success?session_id=${session.id}`);
  });

  it('says that an expired session is expired, and leads back', async () => {
    const session = await newCheckout(local);
    await local.stripe.checkout.sessions.expire(session.id);
    const { page } = visit;
    const answer = await page.goto(session.url);
    expect(answer?.status()).toBe(410);
    expect(await page.locator('h1').textContent()).toBe('This checkout has expired');
    await page.getByRole('link', { name: 'Back to the application' }).click();
    await page.waitForURL('**/app/cancel');
  });

  it('leads back without paying', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await page.getByRole('link', { name: 'Back, without paying' }).click();
    await page.waitForURL('**/app/cancel');
    expect(await state(session.id)).toMatchObject({ status: 'open' });
    await page.goBack();
    await fill('Success');
    await pay();
    await page.waitForURL('**/app/success**');
  });

  it('names the fields that are wrong, and keeps what was typed', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await page.locator('#number').fill('4242 4242 4242 4241');
    await page.locator('#expiry').fill('13/34');
    await page.locator('#cvc').fill('1');
    await pay();
    expect(await page.locator('#number-error').textContent()).toContain('typing mistake');
    expect(await page.locator('#expiry-error').textContent()).toContain('MM / YY');
    expect(await page.locator('#cvc-error').textContent()).toContain('3 or 4 digits');
    expect(await page.locator('#number').getAttribute('aria-describedby')).toBe('number-error');
    expect(await page.locator('#number').inputValue()).toBe('4242 4242 4242 4241');
  });

  it('refuses a card that is not a test card', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await page.locator('#number').fill('4539 1488 0343 6467');
    await page.locator('#expiry').fill('12/34');
    await page.locator('#cvc').fill('123');
    await pay();
    expect(await page.getByRole('alert').textContent()).toContain('test cards');
  });

  it('can be used with the keyboard alone', async () => {
    const session = await newCheckout(local);
    const { page } = visit;
    await page.goto(session.url);
    await page.keyboard.press('Tab');
    expect(await page.locator(':focus').textContent()).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    expect(await page.locator(':focus').textContent()).toContain('Success');
    await page.keyboard.press('Enter');
    await page.locator('#cvc').focus();
    await page.keyboard.press('Enter');
    await page.waitForURL('**/app/success**');
  });

  it('works without scripts', async () => {
    const session = await newCheckout(local, 'pack');
    const plain = await openWindow(browser, { origins: [local.localStripe.url], javaScript: false });
    await plain.page.goto(session.url);
    await plain.page.getByRole('button', { name: 'Success' }).click();
    await plain.page.locator('#pay').click();
    await plain.page.waitForURL('**/app/success**');
    expect(plain.complaints).toEqual([]);
    await plain.context.close();
    expect(await state(session.id)).toMatchObject({
      status: 'complete',
      payment: 'paid',
      subscription: null,
    });
  });

  it('refuses a form that another site sends', async () => {
    const session = await newCheckout(local);
    const answer = await fetch(session.url, {
      method: 'POST',
      headers: { origin: 'https://elsewhere.test', 'content-type': 'application/x-www-form-urlencoded' },
      body: 'method=card&number=4242424242424242&expiry=12/34&cvc=123',
    });
    expect(answer.status).toBe(403);
    expect(await state(session.id)).toMatchObject({ status: 'open' });
  });

  it('escapes what the customer typed', async () => {
    const session = await newCheckout(local);
    const answer = await fetch(session.url, {
      method: 'POST',
      body: new URLSearchParams({ method: 'card', number: '"><script>alert(1)</script>' }),
    });
    const text = await answer.text();
    expect(text).not.toContain('<script>alert');
    expect(text).toContain('&#34;&#62;&#60;script&#62;');
  });
});

async function onePurchase(customer: unknown): Promise<void> {
  if (typeof customer !== 'string') throw new Error('the session has a customer');
  const { data: charges } = await local.stripe.charges.list({ customer });
  const { data: subscriptions } = await local.stripe.subscriptions.list({ customer });
  expect(charges).toHaveLength(1);
  expect(subscriptions).toHaveLength(1);
}

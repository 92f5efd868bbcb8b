import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { isEmailAddress } from '../../server/notify/address.ts';
import type { EmailContext } from '../../server/notify/content.ts';
import { day, duration, moment, money, oneLine, planName, tierName } from '../../server/notify/format.ts';
import { allowLinksTo, STRIPE_ORIGINS } from '../../server/notify/links.ts';
import { type RenderedEmail, renderEmail } from '../../server/notify/render.ts';
import { EMAIL_DATA, type EmailTemplate, type EmailTemplates } from '../../server/notify/templates.ts';
import { SAMPLES } from './emails-samples.ts';

const context: EmailContext = {
  links: allowLinksTo([...STRIPE_ORIGINS, 'https://your.app']),
  billingUrl: 'https://your.app/billing',
};
const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;

/** As it is sent: from what jsonb gives back. */
const written = (template: string, data: unknown, over: Partial<EmailContext> = {}): Promise<RenderedEmail> =>
  renderEmail(template, JSON.parse(JSON.stringify(data)), { ...context, ...over });

const write = <T extends EmailTemplate>(template: T, data: EmailTemplates[T], over?: Partial<EmailContext>) =>
  written(template, data, over);

const hrefs = (html: string) => [...html.matchAll(/(?:href|src)="([^"]*)"/g)].map((match) => match[1]);

test('the samples show every mail there is', () => {
  expect(new Set(SAMPLES.map(([, template]) => template))).toEqual(new Set(Object.keys(EMAIL_DATA)));
});

describe.each(SAMPLES)('the mail %s', (_name, template, data) => {
  let errors: unknown[][];

  beforeEach(() => {
    errors = [];
    vi.spyOn(console, 'error').mockImplementation((...args) => void errors.push(args));
  });

  afterEach(() => {
    vi.restoreAllMocks();
  });

  test('has a short subject of one line, a preview, and the same words in HTML and text', async () => {
    const { subject, html, text } = await written(template, data);
    expect(subject).toMatch(/^[^\r\n\0]{5,78}$/);
    expect(html).toContain('<html dir="ltr" lang="en">');
    expect(html).toMatch(/display:none[^>]*>[^<]{10,150}/);
    // A colon stands in the text where the HTML has another cell.
    const plain = (part: string) => part.replaceAll(':', '').replace(/\s+/g, ' ').trim();
    const shown = plain(
      html
        .replace(/<head>.*<\/head>/s, '')
        .replace(/<[^>]*>/g, ' ')
        .replaceAll('&#x27;', "'"),
    );
    const lines = text.split('\n').filter((line) => !line.startsWith('https://') && line !== '-- ');
    for (const line of lines) expect(shown.includes(plain(line)), line).toBe(true);
    expect(`${html}${text}`).not.toMatch(/undefined|\bnull\b|NaN|\[object|Invalid Date/);
    expect(errors).toEqual([]);
  });

  test('leads only to allowed places and loads nothing', async () => {
    const { html, text } = await written(template, data);
    const links = hrefs(html);
    for (const link of links) expect(context.links(link?.replaceAll('&amp;', '&') ?? '')).toBe(true);
    expect(html).not.toMatch(/<img|<script|<link|url\(|@import/i);
    const nowhere = await written(template, data, { links: () => false });
    expect(hrefs(nowhere.html)).toEqual([]);
    expect(`${nowhere.html}${nowhere.text}`).not.toMatch(/your\.app|stripe\.com/);
    for (const link of links) expect(text).toContain(link?.replaceAll('&amp;', '&'));
  });

  test('is the same bytes each time', async () => {
    expect(await written(template, data)).toEqual(await written(template, data));
  });
});

describe('what the mails say', () => {
  const failed = {
    plan,
    begins: false,
    over: false,
    attempt: 2,
    amountCents: 9_900,
    currency: 'usd',
    nextAttemptAt: new Date('2026-06-05T10:00:00Z'),
    payUrl: 'https://invoice.stripe.com/i/1',
  };

  test('a failed payment says when the next attempt is, and promises nothing of the plan', async () => {
    const { subject, text } = await write('payment_failed', failed);
    expect(subject).toBe('Your payment of $99.00 failed');
    expect(text).toContain('Attempt 2 to collect $99.00 for API Builder failed as well.');
    expect(text).toContain('Next attempt: 5 June 2026, 10:00 UTC');
    expect(text).not.toMatch(/stays|until|in place/);
    expect(text).toContain('Pay $99.00:\nhttps://invoice.stripe.com/i/1');
  });

  test('a failed payment says that there is no next attempt', async () => {
    const { text } = await write('payment_failed', { ...failed, nextAttemptAt: null });
    expect(text).toContain('There will be no further attempt.');
    expect(text).toContain('Next attempt: none');
  });

  test('a failed payment leads to the billing page where its own link may not be shown', async () => {
    const { text } = await write('payment_failed', { ...failed, payUrl: 'https://evil.example/' });
    expect(text).toContain('Manage billing:\nhttps://your.app/billing');
    expect(text).not.toContain('evil');
  });

  test('a first payment that failed says what waits for it', async () => {
    const { text } = await write('payment_failed', { ...failed, begins: true });
    expect(text).toContain('Your subscription begins once this payment has gone through.');
  });

  test('a change of the address claims neither who made it at Stripe nor that nothing else comes', async () => {
    const change = { from: 'ada@old.example', to: 'ada@new.example' };
    const { text } = await write('email_changed', { ...change, by: 'stripe' });
    // Staff changes it in the Dashboard, a program by the API: Stripe's event does not say who did.
    expect(text).toContain('It was changed in the billing details that Stripe keeps');
    expect(text).not.toContain('changed in the customer portal');
    const { text: staff } = await write('email_changed', { ...change, by: 'staff' });
    expect(staff).toContain('It was changed by our staff.');
    // What was queued before still goes to the old address.
    for (const each of [text, staff]) expect(each).not.toMatch(/the last/);
  });

  test('a payment to confirm leads to where it can be confirmed, and says so where there is no link', async () => {
    const data = { plan, begins: false, over: false, amountCents: 9_900, currency: 'usd' };
    const linked = await write('payment_action_required', { ...data, payUrl: failed.payUrl });
    expect(linked.text).toContain('Confirm payment:\nhttps://invoice.stripe.com/i/1');
    expect(linked.text).not.toContain('portal');
    const portal = await write('payment_action_required', { ...data, payUrl: null });
    expect(portal.text).toContain('Open the invoice in the customer portal to confirm it.');
    expect(portal.text).toContain('Manage billing:\nhttps://your.app/billing');
    const nowhere = await write('payment_action_required', { ...data, payUrl: null }, { billingUrl: null });
    expect(nowhere.text).toContain('Open the invoice in the customer portal to confirm it.');
    expect(nowhere.text).not.toContain('https://');
  });

  const receipt = {
    amountCents: 9_900,
    currency: 'usd',
    paidAt: new Date('2026-06-01T00:00:00Z'),
    invoiceNumber: 'DS-1',
    charges: {
      lines: [{ description: 'API Builder', amountCents: 9_900 }],
      discounts: [],
      creditsCents: 0,
      shippingCents: 0,
      taxCents: 0,
    },
    totalCents: 9_900,
    includedTaxCents: 0,
    settlement: { balanceCents: 0, creditNotesCents: 0 },
    hostedInvoiceUrl: null,
  } as const satisfies EmailTemplates['payment_receipt'];
  const rows = async (data: EmailTemplates['payment_receipt']) => {
    const { text } = await write('payment_receipt', data);
    return text.slice(text.indexOf('Invoice: DS-1\n') + 14, text.indexOf('\n\n', text.indexOf('Paid: ')));
  };

  test('a receipt of one line says it once', async () => {
    expect(await rows(receipt)).toBe('API Builder: $99.00\nPaid: $99.00');
  });

  test('a receipt calls discounts, credit, tax and balance what they are', async () => {
    const charges = {
      ...receipt.charges,
      discounts: [
        { name: 'LAUNCH20', amountCents: 1_980 },
        { name: null, amountCents: 100 },
      ],
      creditsCents: 820,
      shippingCents: 500,
      taxCents: 1_500,
    };
    const settlement = { balanceCents: -5_000, creditNotesCents: 1_000 };
    const data = { ...receipt, charges, totalCents: 9_000, settlement, amountCents: 3_000 };
    expect(await rows(data)).toBe(
      [
        'API Builder: $99.00',
        'Discount (LAUNCH20): -$19.80',
        'Discount: -$1.00',
        'Credits applied: -$8.20',
        'Shipping: $5.00',
        'Tax: $15.00',
        'Total: $90.00',
        'Paid from your credit balance: -$50.00',
        'Credit notes: -$10.00',
        'Paid: $30.00',
      ].join('\n'),
    );
  });

  test('a receipt counts tax that is part of the lines only once', async () => {
    expect(await rows({ ...receipt, includedTaxCents: 1_581 })).toBe(
      'API Builder: $99.00\nTotal: $99.00\nTax included in the items: $15.81\nPaid: $99.00',
    );
  });

  test('a receipt adds what was owed from before', async () => {
    const settlement = { balanceCents: 1_000, creditNotesCents: 0 };
    expect(await rows({ ...receipt, settlement, amountCents: 10_900 })).toBe(
      'API Builder: $99.00\nTotal: $99.00\nOwed from before: $10.00\nPaid: $109.00',
    );
  });

  test('a receipt gives no name to what nothing explains', async () => {
    const odd = { ...receipt, charges: null, settlement: null, amountCents: 4_900 };
    expect(await rows(odd)).toBe('Total: $99.00\nPaid: $49.00');
    expect(await rows({ ...odd, amountCents: 9_900 })).toBe('Paid: $99.00');
  });

  test('a receipt of a great many lines counts them', async () => {
    const lines = Array.from({ length: 101 }, () => ({ description: 'Session', amountCents: 100 }));
    const data = {
      ...receipt,
      charges: { ...receipt.charges, lines },
      totalCents: 10_100,
      amountCents: 10_100,
    };
    expect(await rows(data)).toBe('101 items: $101.00\nPaid: $101.00');
  });

  test('a receipt that was written before it said all this is still sent, and says what is certain', async () => {
    const { text } = await written('payment_receipt', {
      amountCents: 4_900,
      currency: 'usd',
      paidAt: '2026-06-01T00:00:00.000Z',
      invoiceNumber: 'DS-1',
      lines: [{ description: 'API Builder', amountCents: 9_900 }],
      taxCents: -5_000,
      hostedInvoiceUrl: null,
    });
    expect(text).toContain('Invoice: DS-1\nPaid: $49.00\n');
    expect(text).not.toContain('Tax');
  });

  test('a renewal says who moves', async () => {
    const renewal = { plan, amountCents: 9_900, currency: 'usd', renewsAt: receipt.paidAt };
    const charged = await write('renewal_upcoming', { ...renewal, charged: true });
    expect(charged.html).toContain('$99.00 will be charged.');
    // A card that has run out, or an invoice that is open already, is something to be done.
    expect(`${charged.html}${charged.text}`).not.toContain('nothing you need');
    const invoiced = await write('renewal_upcoming', { ...renewal, charged: false });
    expect(invoiced.text).toContain('You will get an invoice for it.');
    expect(`${invoiced.html}${invoiced.text}`).not.toMatch(/charged|nothing you need/);
    const free = await write('renewal_upcoming', { ...renewal, amountCents: 0, charged: true });
    expect(free.html).toContain('There is nothing to pay');
    expect(free.html).not.toContain('charged');
  });

  test('a change of the plan names both', async () => {
    const starter = { tier: 'api_starter', billingPeriod: 'annual' } as const;
    const { text } = await write('plan_changed', {
      from: plan,
      to: starter,
      changedAt: failed.nextAttemptAt,
      inEffect: true,
      endedAt: null,
    });
    expect(text).toContain('Before: API Builder, billed monthly\nNow: API Starter, billed yearly');
  });

  test('where one of two subscriptions ended, nothing is said to have changed', async () => {
    const starter = { tier: 'api_starter', billingPeriod: 'annual' } as const;
    const endedAt = new Date('2026-06-01T12:30:00Z');
    const moved = { from: plan, to: starter, changedAt: null, inEffect: true, endedAt };
    const { subject, text } = await write('plan_changed', moved);
    expect(subject).toBe('One of your two subscriptions has ended, API Starter is left');
    expect(text).toContain('Ended: API Builder, billed monthly\nEnded on: 1 June 2026, 12:30 UTC');
    expect(text).toContain('Left: API Starter, billed yearly');
    expect(text).not.toMatch(/changed|in effect/);
  });

  test('a mail that was waiting when it came to know more says what it knew, and promises nothing', async () => {
    const end = '2026-06-01T00:00:00.000Z';
    const started = await written('subscription_started', { plan, currentPeriodEnd: end, trialEndsAt: null });
    expect(started.text).not.toContain('2026');
    const paused = await written('subscription_paused', { plan, reason: 'paused', payUrl: null });
    expect(paused.text).not.toMatch(/trial/i);
    const booked = await written('plan_change_scheduled', { from: plan, to: plan, changesAt: end });
    expect(booked.text).toContain('Changes on: 1 June 2026');
    const ending = await written('cancellation_scheduled', { plan, endsAt: end });
    expect(ending.text).toContain('Ends: 1 June 2026, 00:00 UTC');
    expect(ending.text).not.toMatch(/renew|works|undo/);
    const undone = await written('cancellation_undone', { plan, renewsAt: end });
    expect(undone.text).not.toContain('2026');
  });

  test('only a trial that has ended so is called one, and an end promises no end of charges', async () => {
    const reasons = ['unpaid', 'paused', 'trial_ended', 'requested', 'payment_failed', 'unknown'] as const;
    for (const reason of reasons) {
      const { text } = await write('subscription_paused', { plan, reason, since: null, payUrl: null });
      expect(/trial has ended/.test(text), reason).toBe(reason === 'trial_ended');
      expect(text).not.toContain('On hold since');
    }
    const { html, text } = await write('subscription_ended', { plan, endedAt: null });
    // An invoice may be open, and what was used is billed afterwards.
    expect(html + text).not.toMatch(/charge|Ended:/);
  });

  test('text of others can neither add lines nor markup', async () => {
    const evil = 'a\r\nBcc: b@c.test\n\n<b onclick="x">&\u2028end';
    const { subject, html, text } = await write('payment_receipt', {
      ...receipt,
      amountCents: 1,
      totalCents: 1,
      invoiceNumber: evil,
      charges: { ...receipt.charges, lines: [{ description: evil, amountCents: 1 }] },
      hostedInvoiceUrl: '"><script>alert(1)</script>',
    });
    expect(subject).toBe('Receipt for $0.01, invoice a Bcc: b@c.test <b onclick="x">& end');
    expect(text).toContain('\na Bcc: b@c.test <b onclick="x">& end: $0.01\n');
    expect(html).toContain('a Bcc: b@c.test &lt;b onclick=&quot;x&quot;&gt;&amp; end');
    expect(html).not.toMatch(/<b |<script/);
  });

  test('data that is not what the mail needs is refused', async () => {
    await expect(written('payment_failed', { attempt: 0 })).rejects.toThrow('attempt');
    await expect(written('toString', {})).rejects.toThrow('There is no mail named toString');
  });
});

describe('words for things', () => {
  test.each([
    [9_900, 'usd', '$99.00'],
    [0, 'usd', '$0.00'],
    [-2_950, 'eur', '-€29.50'],
    [123_456_789, 'usd', '$1,234,567.89'],
    [5_000, 'jpy', '¥5,000'],
    [1_000, 'cad', 'CA$10.00'],
    [500, 'ugx', 'UGX\u00a05'],
    [3_499_000, 'huf', 'HUF\u00a034,990'],
  ])('%i of %s is %s', (cents, currency, text) => {
    expect(money(cents, currency)).toBe(text);
  });

  test('days and moments are in UTC and unambiguous', () => {
    const date = new Date('2026-06-01T23:59:59.999Z');
    expect(day(date)).toBe('1 June 2026');
    expect(moment(date)).toBe('1 June 2026, 23:59 UTC');
    expect(moment(new Date('2026-06-01T00:00:00Z'))).toBe('1 June 2026, 00:00 UTC');
  });

  test('plans are named as people read them', () => {
    expect(planName(plan)).toBe('API Builder, billed monthly');
    expect(tierName('agency_manual')).toBe('Agency Manual');
  });

  test.each([
    [59_800, '16 hours 37 minutes'],
    [3_600, '1 hour'],
    [60, '1 minute'],
    [0, 'less than a minute'],
  ])('%i seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  test('text of others becomes one line', () => {
    expect(oneLine(' a\u0000b\r\n\tc\u2029 ')).toBe('a b c');
  });
});

describe('links', () => {
  const allows = allowLinksTo(['https://your.app', 'http://127.0.0.1:12111']);

  test.each(['https://your.app', 'https://your.app/a?b=c&d=%20#e', 'http://127.0.0.1:12111/i/1'])(
    '%s may be shown',
    (url) => {
      expect(allows(url)).toBe(true);
    },
  );

  test.each([
    'http://your.app/',
    'https://your.app.evil.example/',
    'https://evil.example/https://your.app',
    'https://your.app@evil.example/',
    'https://user:pass@your.app/',
    'https://your.app:8443/',
    'https:your.app',
    '//your.app/',
    'javascript://your.app/%0aalert(1)',
    'blob:https://your.app/x',
    'data:text/html,hi',
    'https://your.app\\@evil.example/',
    'https://your.app/\r\nx',
    'https://your.app/ x',
    'https://your.app/"onclick=',
    'https://yоur.app/',
    '',
  ])('%j may not', (url) => {
    expect(allows(url)).toBe(false);
  });
});

test.each([
  ['ada@example.com', true],
  ['a.b+c@sub.example.com', true],
  ['a@b.test\r\nBcc: c@d.test', false],
  ['a@b.test\u0000', false],
  ['a@b.test,c@d.test', false],
  ['a@b.test;c@d.test', false],
  ['Ada <a@b.test>', false],
  ['a@b@c', false],
  ['@b.test', false],
  ['', false],
])('%j as an address: %s', (text, is) => {
  expect(isEmailAddress(text)).toBe(is);
});

describe('the mail of a second subscription', () => {
  const data = { purchase: 'subscription', currency: 'usd' } as const;
  const plans = { ended: { ...plan, tier: 'api_starter' }, kept: plan } as const;
  const textOf = async (more: Partial<EmailTemplates['duplicate_purchase_refunded']>) => {
    const { subject, text } = await write('duplicate_purchase_refunded', {
      ...data,
      amountCents: null,
      ...more,
    });
    return `${subject}\n${text}`;
  };

  test('names what was ended, what goes on, and what was sent back', async () => {
    const text = await textOf({ ...plans, amountCents: 1_450, rest: 'none' });
    expect(text).toContain('We refunded a second subscription: $14.50');
    expect(text).toContain(`Ended: ${planName(plans.ended)}`);
    expect(text).toContain(`Goes on: ${planName(plans.kept)}`);
    expect(text).not.toMatch(/nothing was sent back|under way|our team|disputed/);
  });

  test('says that nothing was charged only where nothing was', async () => {
    // A debit that takes days may be on its way: what has not arrived yet is not "nothing to send back".
    const uncharged = await textOf({ ...plans, rest: 'none' });
    expect(uncharged).toContain('So far your payment method has not been charged');
    expect(uncharged).toMatch(/still be under way, we\s+look at it when it arrives/);
    expect(uncharged).not.toContain('nothing to send back');
    for (const rest of ['with_person', 'with_bank', undefined] as const) {
      const text = await textOf({ ...plans, ...(rest && { rest }) });
      expect(text).not.toMatch(/charged|sent \$|refunded|No money/);
    }
    expect(await textOf({ rest: 'with_person' })).toContain('our team has been told');
    expect(await textOf({ rest: 'with_bank' })).toContain('disputed at your bank');
  });
});

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { isEmailAddress } from '../../server/notify/address.ts';
import type { EmailContext } from '../../server/notify/content.ts';
import { day, duration, moment, money, oneLine, planName, tierName } from '../../server/notify/format.ts';
import { allowLinksTo, STRIPE_ORIGINS } from '../../server/notify/links.ts';
import { createPace } from '../../server/notify/pace.ts';
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
    attempt: 2,
    amountCents: 9_900,
    currency: 'usd',
    nextAttemptAt: new Date('2026-06-05T10:00:00Z'),
    planUntil: new Date('2026-06-08T00:00:00Z'),
    payUrl: 'https://invoice.stripe.com/i/1',
  };

  test('a failed payment says when the next attempt is and until when the plan stays', async () => {
    const { subject, text } = await write('payment_failed', failed);
    expect(subject).toBe('Your payment of $99.00 failed');
    expect(text).toContain('Attempt 2 to collect $99.00 for API Builder failed as well.');
    expect(text).toContain('Next attempt: 5 June 2026, 10:00 UTC');
    expect(text).toContain('Your plan stays in place until 8 June 2026.');
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

  test('the rows of a receipt add up to what was paid', async () => {
    const { text } = await write('payment_receipt', {
      amountCents: 10_900,
      currency: 'usd',
      paidAt: new Date('2026-06-01T00:00:00Z'),
      invoiceNumber: 'DS-1',
      lines: [{ description: 'API Builder', amountCents: 10_000 }],
      taxCents: 1_900,
      hostedInvoiceUrl: null,
    });
    expect(text).toContain('API Builder: $100.00\nDiscounts and credit: -$10.00\nTax: $19.00\nPaid: $109.00');
  });

  test('a change of the plan names both', async () => {
    const starter = { tier: 'api_starter', billingPeriod: 'annual' } as const;
    const { text } = await write('plan_changed', { from: plan, to: starter, changedAt: failed.planUntil });
    expect(text).toContain('Before: API Builder, billed monthly\nNow: API Starter, billed yearly');
  });

  test('text of others can neither add lines nor markup', async () => {
    const evil = 'a\r\nBcc: b@c.test\n\n<b onclick="x">&\u2028end';
    const { subject, html, text } = await write('payment_receipt', {
      amountCents: 1,
      currency: 'usd',
      paidAt: failed.planUntil,
      invoiceNumber: evil,
      lines: [{ description: evil, amountCents: 1 }],
      taxCents: 0,
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

describe('the pace', () => {
  /** A clock that sleeping moves. */
  function timeline() {
    let nowMs = 0;
    const sleeps: number[] = [];
    const pace = createPace({
      perSecond: 2,
      nowMs: () => nowMs,
      sleep: async (durationMs) => void sleeps.push(durationMs),
    });
    return { pace, sleeps, pass: (durationMs: number) => (nowMs += durationMs) };
  }

  test('lets a burst through evenly and nobody wait without need', async () => {
    const { pace, sleeps, pass } = timeline();
    await Promise.all([pace.turn(), pace.turn(), pace.turn()]);
    expect(sleeps).toEqual([500, 1_000]);
    pass(10_000);
    await pace.turn();
    expect(sleeps).toHaveLength(2);
  });

  test('lets nobody through while it is held', async () => {
    const { pace, sleeps } = timeline();
    pace.hold(3_000);
    pace.hold(1_000);
    await Promise.all([pace.turn(), pace.turn()]);
    expect(sleeps).toEqual([3_000, 3_500]);
  });
});

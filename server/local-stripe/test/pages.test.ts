import { describe, expect, it } from 'vitest';
import { money } from '../money.ts';
import { html } from '../pages/html.ts';
import { checkMethod, NOTHING_TYPED } from '../pages/payment-form.ts';
import { textPdf } from '../pages/pdf.ts';
import { readProduct } from '../pages/product.ts';
import { filledWith, TEST_METHODS } from '../pages/test-methods.ts';
import { howOften } from '../pages/words.ts';

describe('markup', () => {
  it('escapes every value, in content and in both kinds of quotes', () => {
    const evil = `<img src=x onerror="alert(1)">'&`;
    expect(html`<p title="${evil}">${evil}</p>`.source).toBe(
      '<p title="&#60;img src=x onerror=&#34;alert(1)&#34;&#62;&#39;&#38;">&#60;img src=x onerror=&#34;alert(1)&#34;&#62;&#39;&#38;</p>',
    );
  });

  it('joins lists, keeps markup as it is and leaves out nothing and false', () => {
    expect(html`${[html`<b>${1}</b>`, '<', null, false, ['x']]}`.source).toBe('<b>1</b>&#60;x');
  });
});

describe('amounts', () => {
  it.each([
    [9900, 'usd', '$99.00'],
    [-450, 'usd', '-$4.50'],
    [500, 'jpy', '¥500'],
  ])('%i %s reads %s', (amount, currency, text) => {
    expect(money(amount, currency)).toBe(text);
  });

  it('says once for a price that does not recur', () => {
    expect(howOften({ recurring: null })).toBe('once');
  });
});

describe('what is typed as a payment method', () => {
  const now = Date.UTC(2026, 4, 31) / 1000;
  const card = filledWith('success');

  it.each(TEST_METHODS.map((test) => test.key))('takes the test method %s as the page fills it in', (key) => {
    expect(checkMethod(filledWith(key), now)).toEqual({});
  });

  it('fills in nothing for a test method that does not exist', () => {
    expect(filledWith('constructor')).toEqual(NOTHING_TYPED);
  });

  it('takes a card until the end of its month', () => {
    expect(checkMethod({ ...card, expiry: '05/26' }, now)).toEqual({});
    expect(checkMethod({ ...card, expiry: '04/26' }, now)).toHaveProperty('expiry');
  });

  it.each([
    ['number', { number: '4242 4242 4242 4241' }],
    ['number', { number: '42' }],
    ['number', { number: '٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢' }],
    ['expiry', { expiry: '0/30' }],
    ['expiry', { expiry: '13/30' }],
    ['cvc', { cvc: '12' }],
    ['cvc', { cvc: '12a' }],
  ])('marks the %s of %o', (name, change) => {
    expect(Object.keys(checkMethod({ ...card, ...change }, now))).toEqual([name]);
  });
});

describe('a PDF of text', () => {
  it('has the lines, escaped, and a table of offsets that point at the objects', () => {
    const file = textPdf([
      'Total (all)',
      'back\\slash',
      '漢',
      ...Array.from({ length: 60 }, (_, at) => `line ${at}`),
    ]);
    const text = file.toString('latin1');
    expect(text).toContain('(Total \\(all\\)) Tj');
    expect(text).toContain('(back\\\\slash) Tj');
    expect(text).toContain('(?) Tj');
    expect(text).toContain('/Count 2');
    const start = Number(/startxref\n(\d+)/.exec(text)?.[1]);
    expect(text.slice(start, start + 4)).toBe('xref');
    const offsets = [...text.slice(start).matchAll(/(\d{10}) 00000 n/g)].map((match) => Number(match[1]));
    expect(offsets).toHaveLength(7);
    for (const [at, offset] of offsets.entries())
      expect(text.slice(offset)).toMatch(new RegExp(`^${at + 1} 0 obj`));
  });
});

describe('the product beside the local Stripe', () => {
  it('is none when there is none, and unreachable when nothing listens', async () => {
    expect(await readProduct(null)).toEqual({ state: 'none' });
    expect(await readProduct({ baseUrl: 'http://127.0.0.1:1', token: 't' })).toMatchObject({
      state: 'unreachable',
    });
  });
});

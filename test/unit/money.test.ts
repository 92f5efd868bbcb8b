import { describe, expect, it, test } from 'vitest';
import { money as onPages } from '../../server/local-stripe/money.ts';
import { money as inMails } from '../../server/notify/format.ts';

/**
 * Every currency Stripe takes payments in, by how its documentation (docs.stripe.com/currencies) counts amounts:
 * "Zero-decimal currencies", "Three-decimal currencies", "Special cases", and all others of the list there.
 */
const WHOLE = 'bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf';
const THOUSANDTHS = 'bhd jod kwd omr tnd';
/**
 * ISK and UGX: "backwards compatibility requires you to represent it as a two-decimal value, where the decimal amount
 * is always 00"; "to charge 5 ISK, provide an amount value of 500". HUF and TWD: "zero-decimal for payouts, even
 * though you can charge two-decimal amounts".
 */
const HUNDREDTHS_OF_WHOLE = 'isk ugx huf twd';
const HUNDREDTHS = `usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd
  cad cdf chf cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg idr ils inr
  jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr
  nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd tzs
  uah uyu uzs wst xcd xcg yer zar zmw`;

const codes = (list: string) => list.split(/\s+/);
/** The number alone: symbols and codes are matters of taste. */
const figures = (text: string) => /\d[\d.,]*/.exec(text)?.[0];

describe.each([
  ['mails', inMails],
  ["the local Stripe's pages", onPages],
])('money in %s', (_where, money) => {
  it.each(codes(WHOLE))('counts %s in whole units', (code) => {
    expect(figures(money(123_456, code))).toBe('123,456');
    expect(figures(money(0, code))).toBe('0');
  });

  it.each(codes(THOUSANDTHS))('counts %s in thousandths', (code) => {
    expect(figures(money(123_450, code))).toBe('123.450');
    expect(figures(money(5_120, code))).toBe('5.120');
    expect(figures(money(0, code))).toBe('0.000');
  });

  it.each(codes(HUNDREDTHS))('counts %s in hundredths', (code) => {
    expect(figures(money(123_456, code))).toBe('1,234.56');
    expect(figures(money(9_900, code))).toBe('99.00');
    expect(figures(money(0, code))).toBe('0.00');
  });

  it.each(codes(HUNDREDTHS_OF_WHOLE))(
    'counts %s in hundredths and shows none where there are none',
    (code) => {
      expect(figures(money(3_499_000, code))).toBe('34,990');
      expect(figures(money(500, code))).toBe('5');
      expect(figures(money(80_045, code))).toBe('800.45');
      expect(figures(money(80_040, code))).toBe('800.40');
      expect(figures(money(0, code))).toBe('0');
    },
  );

  test.each([
    [9_900, 'usd', '$99.00'],
    [-2_950, 'eur', '-€29.50'],
    [123_456_789, 'USD', '$1,234,567.89'],
    [5_000, 'jpy', '¥5,000'],
    [1_000, 'cad', 'CA$10.00'],
    [3_499_000, 'huf', 'HUF\u00a034,990'],
    [10_000, 'kwd', 'KWD\u00a010.000'],
    [999_999_999_999, 'usd', '$9,999,999,999.99'],
    [-0, 'usd', '$0.00'],
  ])('writes %d of %s as %s', (amount, currency, text) => {
    expect(money(amount, currency)).toBe(text);
  });
});

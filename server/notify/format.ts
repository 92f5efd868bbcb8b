import type { BillingPeriod, Tier } from '../../shared/catalog.ts';
import type { Plan } from './templates.ts';

/** An amount as Stripe counts it in this currency, such as `$99.00`; other currencies say which they are. */
export function money(amountCents: number, currency: string): string {
  const code = currency.toUpperCase();
  // `|| 0` makes -0 a 0.
  return formatOf(code).format((amountCents || 0) / 10 ** digitsOf(code));
}

/**
 * How Stripe counts, which is neither ISO 4217's nor ICU's way: https://docs.stripe.com/currencies, under
 * "Zero-decimal currencies", "Three-decimal currencies" and "Special cases". All others are counted in hundredths.
 */
const IN_WHOLE_UNITS = words('BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF');
const IN_THOUSANDTHS = words('BHD JOD KWD OMR TND');
/** Counted in hundredths that nobody uses: they are shown only where there are some. */
const RARELY_DIVIDED = words('HUF ISK TWD UGX');

function digitsOf(code: string): number {
  if (IN_WHOLE_UNITS.has(code)) return 0;
  return IN_THOUSANDTHS.has(code) ? 3 : 2;
}

/** Making a formatter costs a hundred times what using it does. */
const formats = new Map<string, Intl.NumberFormat>();

function formatOf(code: string): Intl.NumberFormat {
  const known = formats.get(code);
  if (known) return known;
  const digits = digitsOf(code);
  const format = new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency: code,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    trailingZeroDisplay: RARELY_DIVIDED.has(code) ? 'stripIfInteger' : 'auto',
  });
  formats.set(code, format);
  return format;
}

function words(text: string): ReadonlySet<string> {
  return new Set(text.split(' '));
}

/** Trial-pack credit, which is always in US cents. */
export function credit(cents: number): string {
  return money(cents, 'usd');
}

/** A day in UTC, such as `1 June 2026`. */
export function day(date: Date): string {
  return DAY.format(date);
}

/** A moment in UTC, such as `1 June 2026, 14:05 UTC`. */
export function moment(date: Date): string {
  return `${DAY.format(date)}, ${TIME.format(date)} UTC`;
}

const DAY = new Intl.DateTimeFormat('en-GB', {
  timeZone: 'UTC',
  day: 'numeric',
  month: 'long',
  year: 'numeric',
});
const TIME = new Intl.DateTimeFormat('en-GB', {
  timeZone: 'UTC',
  hour: '2-digit',
  minute: '2-digit',
  hourCycle: 'h23',
});

/** A length of time to the minute, such as `16 hours 37 minutes`. */
export function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  const parts = [count(Math.floor(minutes / 60), 'hour'), count(minutes % 60, 'minute')];
  return parts.filter((part) => part !== null).join(' ') || 'less than a minute';
}

function count(number: number, unit: string): string | null {
  return number === 0 ? null : `${number} ${unit}${number === 1 ? '' : 's'}`;
}

/** A tier as people read it, such as `API Builder`. */
export function tierName(tier: Tier): string {
  return tier
    .split('_')
    .map((word) => (word === 'api' ? 'API' : word.charAt(0).toUpperCase() + word.slice(1)))
    .join(' ');
}

/** A plan as people read it, such as `API Builder, billed monthly`. */
export function planName({ tier, billingPeriod }: Plan): string {
  return `${tierName(tier)}, ${BILLED[billingPeriod]}`;
}

const BILLED = { monthly: 'billed monthly', annual: 'billed yearly' } satisfies Record<BillingPeriod, string>;

/** Text of others on one line: no line break can reach a header or fake a paragraph. */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim();
}

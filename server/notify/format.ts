import type { BillingPeriod, Tier } from '../../shared/catalog.ts';
import type { Plan } from './templates.ts';

/** An amount in the smallest unit of its currency, such as `$99.00`; other currencies say which they are. */
export function money(amountCents: number, currency: string): string {
  const code = currency.toUpperCase();
  const format = new Intl.NumberFormat('en-US', { style: 'currency', currency: code });
  const digits = STRIPE_DIGITS[code] ?? format.resolvedOptions().maximumFractionDigits ?? 2;
  return format.format(amountCents / 10 ** digits);
}

/** Where Stripe counts a currency in other units than ISO 4217. */
const STRIPE_DIGITS: Readonly<Record<string, number>> = { ISK: 2, MGA: 0, UGX: 2 };

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

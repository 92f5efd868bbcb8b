import type Stripe from 'stripe';
import { money } from '../money.ts';

const longDay = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' });

/** Unix seconds as a day: `1 May 2026` (UTC). */
export function day(seconds: number): string {
  return longDay.format(seconds * 1000);
}

/** Unix seconds to the second: `2026-05-01 09:30:00` (UTC). */
export function moment(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

/** Unix seconds as a time of day: `09:30:00` (UTC). */
export function timeOfDay(seconds: number): string {
  return moment(seconds).slice(11);
}

/** `every month`, `every 3 months`, `once`. */
export function howOften(price: Pick<Stripe.Price, 'recurring'>): string {
  if (!price.recurring) return 'once';
  const { interval, interval_count: count } = price.recurring;
  return count === 1 ? `every ${interval}` : `every ${count} ${interval}s`;
}

/** `$99.00 every month`. */
export function priceInWords(
  price: Pick<Stripe.Price, 'unit_amount' | 'currency' | 'recurring'>,
  quantity = 1,
): string {
  return `${money((price.unit_amount ?? 0) * quantity, price.currency)} ${howOften(price)}`;
}

/** `api_builder` and `past_due` as words: `api builder`, `past due`. */
export function words(code: string): string {
  return code.replaceAll('_', ' ');
}

/** `1 event`, `2 events`. */
export function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}

import type { Period } from './periods.ts';

/** What a customer was billed for one subscription item and has not been credited for yet. */
export interface Debit {
  /** Subscription item. */
  readonly item: string;
  readonly price: string;
  readonly quantity: number;
  readonly amountCents: number;
  readonly start: number;
  readonly end: number;
  /** Where it was billed: on an invoice's line, or still on a pending invoice item. */
  readonly invoice: string | null;
  readonly line: string | null;
  readonly invoiceItem: string | null;
}

export interface Credit {
  readonly debit: Debit;
  /** Zero or less. */
  readonly amountCents: number;
  readonly period: Period;
}

/**
 * The part of an amount that falls to [from, to) of the period it pays for, rounded to the nearest cent with
 * halves away from zero, so that a credit is exactly the negative of the charge it takes back.
 */
export function prorate(amountCents: number, period: Period, from: number, to: number): number {
  const length = BigInt(period.end - period.start);
  if (length <= 0n) return 0;
  const start = Math.max(from, period.start);
  const end = Math.min(to, period.end);
  if (end <= start) return 0;
  const numerator = BigInt(Math.abs(amountCents)) * BigInt(end - start);
  const cents = Number((2n * numerator + length) / (2n * length));
  return amountCents < 0 ? 0 - cents : cents;
}

/**
 * What is given back when an item is changed or removed at a moment: for each debit its unused part, computed
 * from what was really billed and not from the price as it is now (flexible billing mode).
 */
export function creditsAt(debits: readonly Debit[], at: number): readonly Credit[] {
  return debits.flatMap((debit) => {
    const start = Math.max(at, debit.start);
    const amountCents = 0 - prorate(debit.amountCents, debit, start, debit.end);
    return amountCents === 0 ? [] : [{ debit, amountCents, period: { start, end: debit.end } }];
  });
}

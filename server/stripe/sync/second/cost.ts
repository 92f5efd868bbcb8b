import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import { idOf } from '../purchase/purchase.ts';

/** Why nobody but a person can say what is to be given back, or may give it back. */
export type Doubt =
  | 'above_one_period'
  | 'beside_unknown'
  | 'backdated'
  | 'invoice_unclear'
  | 'credit_note'
  | 'not_refundable'
  | 'disputed';

/** What a subscription has cost since a moment, in the smallest unit of its currency. */
export type Cost = {
  /** All that was paid for that time. */
  readonly cents: number;
  /** The paid invoices, newest first, each with its part of it. */
  readonly parts: readonly { readonly invoice: Stripe.Invoice; readonly cents: number }[];
  /** Set where this is not to be given back by itself. */
  readonly doubt: Doubt | null;
};

/**
 * What was paid for a subscription for the time since a moment (unix seconds), up to the end of what has been paid
 * for: each invoice line by the part of its own period that lies after it, rounded down. More than one billing
 * period of it, or what we cannot read off its invoices for certain, is for a person.
 */
export async function readCost(
  stripe: Pick<StripeCalls, 'listPaidInvoices' | 'readInvoiceLines'>,
  subscription: Stripe.Subscription,
  sinceS: number,
): Promise<Cost> {
  const read: Part[] = [];
  for (const invoice of await stripe.listPaidInvoices(subscription.id)) {
    const lines = await stripe.readInvoiceLines(invoice);
    read.push(partOf(invoice, lines, subscription.id, sinceS));
  }
  // A change of plan settles with what was paid before: what it credited, and what goes beyond its own payment, is of
  // the older ones.
  let carried = 0;
  const parts = read.map(({ invoice, cents: own }) => {
    const cents = Math.max(0, Math.min(invoice.amount_paid, own + carried));
    carried += own - cents;
    return { invoice, cents };
  });
  const untaxed = read.reduce((sum, part) => sum + part.untaxedCents, 0);
  const doubt =
    read.find((part) => part.doubt !== null)?.doubt ??
    (untaxed > centsOfPeriod(subscription, read) ? 'above_one_period' : null);
  return { cents: parts.reduce((sum, { cents }) => sum + cents, 0), parts, doubt };
}

type Part = {
  readonly invoice: Stripe.Invoice;
  /** Below zero where more was credited than charged; above what was paid where a credit came before it. */
  readonly cents: number;
  /** The same, without the tax on top: this is compared with the price. */
  readonly untaxedCents: number;
  /** What the lines of whole periods come to, before discounts and tax. */
  readonly periodCents: number;
  readonly doubt: Doubt | null;
};

function partOf(
  invoice: Stripe.Invoice,
  lines: readonly Stripe.InvoiceLineItem[] | null,
  subscription: string,
  sinceS: number,
): Part {
  const paid = invoice.amount_paid;
  const none = { invoice, cents: 0, untaxedCents: 0, periodCents: 0 };
  if (lines === null || lines.length === 0)
    return { ...none, doubt: paid === 0 && lines !== null ? null : 'invoice_unclear' };
  const ours = lines.filter((line) => isOf(line, subscription));
  const total = lines.reduce((sum, line) => sum + charged(line), 0);
  const ofWhole = (cents: number) => (total > 0 ? floorOf(cents, Math.min(paid, total), total) : 0);
  const owed = ours.reduce((sum, line) => sum + inTime(charged(line), line.period, sinceS), 0);
  const untaxed = ours.reduce((sum, line) => sum + inTime(priced(line), line.period, sinceS), 0);
  // A balance may have paid a part of it, or all.
  const cents = total > 0 ? ofWhole(owed) : Math.min(0, owed);
  const whole = ours.filter(({ parent }) => parent?.subscription_item_details?.proration !== true);
  return {
    invoice,
    cents,
    untaxedCents: total > 0 ? ofWhole(untaxed) : Math.min(0, untaxed),
    periodCents: (whole.length > 0 ? whole : ours).reduce((sum, { amount }) => sum + amount, 0),
    // Somebody has given back of it by hand already, perhaps into the balance, where we do not see for what.
    doubt: cents > 0 && invoice.post_payment_credit_notes_amount > 0 ? 'credit_note' : null,
  };
}

/** A line for the subscription itself: what else was put onto its invoices was not bought twice. */
function isOf({ parent, subscription: named }: Stripe.InvoiceLineItem, subscription: string): boolean {
  if (!parent) return idOf(named) === subscription;
  const item = parent.subscription_item_details;
  if (item) return item.subscription === subscription;
  const other = parent.invoice_item_details;
  return other?.proration === true && other.subscription === subscription;
}

/** What a line comes to after discounts, before the tax on top. */
function priced({ amount, discount_amounts: discounts }: Stripe.InvoiceLineItem): number {
  return amount - sumOf(discounts);
}

/** What a line comes to in all. */
function charged(line: Stripe.InvoiceLineItem): number {
  const { taxes, pretax_credit_amounts: credits } = line;
  const onTop = (taxes ?? []).filter(({ tax_behavior }) => tax_behavior === 'exclusive');
  // The discounts stand among these a second time.
  const granted = (credits ?? []).filter(({ type }) => type !== 'discount');
  return priced(line) + sumOf(onTop) - sumOf(granted);
}

const sumOf = (amounts: readonly { amount: number }[] | null | undefined): number =>
  (amounts ?? []).reduce((sum, { amount }) => sum + amount, 0);

/** The part of an amount that falls to the time since a moment. */
function inTime(cents: number, { start, end }: Stripe.InvoiceLineItem.Period, sinceS: number): number {
  if (end <= start) return start >= sinceS ? cents : 0;
  return floorOf(cents, Math.max(0, end - Math.max(start, sinceS)), end - start);
}

/** `cents * part / whole`, rounded down: no amount times seconds of a year leaves the safe integers unseen. */
function floorOf(cents: number, part: number, whole: number): number {
  const product = BigInt(cents) * BigInt(part);
  const quotient = product / BigInt(whole);
  const isCut = product < 0n && quotient * BigInt(whole) !== product;
  return Number(isCut ? quotient - 1n : quotient);
}

/** What one billing period costs: by its prices, or by its newest invoice where they do not say so in its currency. */
function centsOfPeriod({ items, currency }: Stripe.Subscription, read: readonly Part[]): number {
  let cents = 0;
  for (const { price, quantity } of items.data) {
    if (typeof price.unit_amount !== 'number' || price.currency !== currency)
      return read.find(({ periodCents }) => periodCents > 0)?.periodCents ?? 0;
    cents += price.unit_amount * (quantity ?? 1);
  }
  return cents;
}

/** Since when two subscriptions have both been there, in unix seconds. A backdated one is paid for from its start. */
export function bothSince(one: Stripe.Subscription, other: Stripe.Subscription): number {
  return Math.max(beginningOf(one), beginningOf(other));
}

/**
 * Whether that moment lies before the other one was made. Stripe can have billed it for the time since, or not: what
 * was paid for the first one then was paid twice, or was the only one that there was.
 */
export function isBackdatedTo(sinceS: number, { created }: Stripe.Subscription): boolean {
  return created - sinceS > LONGEST_MAKING_S;
}

/** Stripe may set both moments a little apart when it makes one. */
const LONGEST_MAKING_S = 3_600;

/** When a subscription began, in unix seconds. */
export function beginningOf({ created, start_date: start }: Stripe.Subscription): number {
  return start < created ? start : created;
}

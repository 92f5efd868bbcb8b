import type Stripe from 'stripe';
import { AuditEntry } from '../../../database/entities/journal.ts';
import type { Effect, Source } from '../effects.ts';
import type { Recording } from '../record-fact.ts';
import { costOf, type InvoicePurchase } from './by-invoice.ts';
import { idOf, type SessionFacts } from './purchase.ts';

/** Money that came or went for something that we do not understand. */
export type Unrecognised = {
  /** Names the fact, so that it is told once. */
  key: string;
  /** The Checkout session, the invoice, or where there is neither the payment. */
  target: string;
  amountCents: number;
  /** What has been given back of it already, where that is told. */
  refundedCents?: number;
  currency: string;
  /**
   * `not_ours`: neither a subscription nor a trial pack. `nothing_sold`: paid without session and invoice.
   * `refunded_in_part`: given back, and not said for what.
   */
  reason: 'not_ours' | 'nothing_sold' | 'refunded_in_part';
};

/** Raises the alarm and writes it down, once. */
export async function noteUnrecognised(
  { tx, alarms }: Pick<Recording, 'tx' | 'alarms'>,
  { key, target, amountCents, refundedCents = 0, currency, reason }: Unrecognised,
  source: Source,
): Promise<Effect[]> {
  if ((await tx.count(AuditEntry, { dedupeKey: key })) > 0) return [];
  const refunded = refundedCents > 0 ? { refunded_cents: refundedCents } : {};
  const payload = { reason, amount_cents: amountCents, ...refunded, currency, ...source };
  alarms.push({ kind: 'unrecognised_payment', details: { paid_in: target, ...payload } });
  return [{ kind: 'audit', key, action: 'payment.unrecognised', target, payload }];
}

/** A session of our customer was paid and sold nothing of ours. One that has an invoice is told of by that. */
export async function noteStrangeSession(
  context: Recording,
  { session, payment, pack }: SessionFacts,
  source: Source,
): Promise<Effect[]> {
  const amountCents = session.amount_total ?? 0;
  if (pack !== null || payment !== 'done' || session.mode !== 'payment' || amountCents === 0) return [];
  if (idOf(session.invoice) !== null) return [];
  const { id: target, currency } = session;
  const paid = { target, amountCents, currency: currency ?? 'usd', reason: 'not_ours' } as const;
  return await noteUnrecognised(context, { ...paid, key: `unrecognised:${target}` }, source);
}

/** Our customer paid for lines of an invoice that are nothing of ours. */
export async function noteStrangeLines(
  context: Recording,
  { id: target, amount_paid, currency }: Stripe.Invoice,
  { strange }: InvoicePurchase,
  source: Source,
): Promise<Effect[]> {
  if (strange.length === 0 || amount_paid === 0) return [];
  const cost = strange.reduce((sum, line) => sum + costOf(line), 0);
  const paid = { target, amountCents: Math.min(cost, amount_paid), currency, reason: 'not_ours' } as const;
  return await noteUnrecognised(context, { ...paid, key: `unrecognised:${target}` }, source);
}

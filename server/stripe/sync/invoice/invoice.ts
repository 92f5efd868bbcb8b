import type Stripe from 'stripe';
import { toWireTime } from '../../../../shared/time.ts';
import type { Plan } from '../../../notify/templates.ts';
import type { Effect, Source } from '../effects.ts';
import { balanceCents, discountCents, paidAt, receiptOf, taxCents } from './receipt.ts';

export type InvoiceNews = 'paid' | 'payment_failed' | 'payment_action_required';

/** Names of discounts by their ids, where Stripe gives them one. */
export type DiscountNames = ReadonlyMap<string, string>;

/** An invoice as it is now, after Stripe told us some news of it, with what else Stripe holds about it. */
export type InvoiceFacts = {
  news: InvoiceNews;
  invoice: Stripe.Invoice;
  /** Null where there are too many to read, or nothing is said of them. */
  lines: readonly Stripe.InvoiceLineItem[] | null;
  discountNames: DiscountNames;
  /** The payment that the invoice waits for, with its latest charge; null where there is none, or none is due. */
  payment: Stripe.PaymentIntent | null;
};

/** What decides what is said about a payment that did not go through, beside the invoice itself. */
export type Circumstances = {
  /** What the invoice bills; null where it is not for one plan of a subscription of ours. */
  plan: Plan | null;
  /** Whether the subscription waits for this payment to begin. */
  begins: boolean;
  /** Whether the subscription is over: paying what is open does not bring it back. */
  over: boolean;
  /** Why nobody is to be asked for this payment, or null. */
  unasked: 'surplus' | 'in_checkout' | null;
  source: Source;
};

/**
 * What follows from an invoice. News that time has overtaken (a failure of what is paid by now) is written down as
 * resolved and mails nobody. Both kinds of news of one attempt say the same: what Stripe waits for now decides.
 */
export function effectsOfInvoice(facts: InvoiceFacts, circumstances: Circumstances): Effect[] {
  const { invoice, news } = facts;
  if (news === 'paid') return invoice.status === 'paid' ? paid(facts, circumstances.source) : [];
  const settled = invoice.status === 'paid' || invoice.status === 'void';
  if (settled) return news === 'payment_failed' ? resolved(invoice, circumstances.source) : [];
  switch (waitsFor(facts)) {
    case 'nobody':
      return [];
    case 'confirmation':
      return actionRequired(facts, circumstances);
    case 'payment':
      return failed(facts, circumstances);
  }
}

function paid({ invoice, lines, discountNames }: InvoiceFacts, source: Source): Effect[] {
  const { id, amount_paid, currency, number } = invoice;
  const audit: Effect = {
    kind: 'audit',
    key: `paid:${id}`,
    action: 'invoice.paid',
    target: id,
    payload: {
      amount_cents: amount_paid,
      currency,
      number,
      paid_at: toWireTime(paidAt(invoice)),
      total_cents: invoice.total,
      tax_cents: taxCents(invoice),
      discount_cents: discountCents(invoice),
      balance_cents: balanceCents(invoice),
      // What the operator was paid in another way and noted at Stripe.
      ...(invoice.amount_paid_off_stripe && { paid_off_stripe_cents: invoice.amount_paid_off_stripe }),
      ...source,
    },
  };
  if (amount_paid === 0) return [audit];
  const data = receiptOf(invoice, lines, discountNames);
  return [audit, { kind: 'mail', key: `paid:${id}`, template: 'payment_receipt', data }];
}

function resolved(invoice: Stripe.Invoice, source: Source): Effect[] {
  const { id, status, status_transitions: at, attempt_count: attempts } = invoice;
  const settledAt = at.paid_at ?? at.voided_at;
  return [
    {
      kind: 'audit',
      key: `dunning_resolved:${id}:${attempts}`,
      action: 'invoice.payment_failure_resolved',
      target: id,
      payload: {
        attempts,
        status,
        settled_at: settledAt ? toWireTime(fromUnix(settledAt)) : null,
        ...source,
      },
    },
  ];
}

/**
 * What Stripe waits for. A bank that wants its customer leaves an attempt made without them at `requires_action`,
 * or declines it with `authentication_required`; both are confirmed at the same place.
 */
function waitsFor({ payment, news }: InvoiceFacts): 'confirmation' | 'payment' | 'nobody' {
  switch (payment?.status) {
    case undefined:
      return news === 'payment_action_required' ? 'confirmation' : 'payment';
    case 'requires_action':
    case 'requires_confirmation':
      return 'confirmation';
    case 'processing':
    case 'requires_capture':
    case 'succeeded':
      // The money is on its way: what failed was an earlier attempt.
      return 'nobody';
    default:
      return payment?.last_payment_error?.code === 'authentication_required' ? 'confirmation' : 'payment';
  }
}

function failed({ invoice, payment }: InvoiceFacts, circumstances: Circumstances): Effect[] {
  const { plan, begins, over, unasked, source } = circumstances;
  const { id, amount_remaining: amountCents, currency } = invoice;
  const attempt = attemptOf(invoice);
  const nextAttemptAt = invoice.next_payment_attempt === null ? null : fromUnix(invoice.next_payment_attempt);
  const payUrl = invoice.hosted_invoice_url ?? null;
  const audit: Effect = {
    kind: 'audit',
    key: `dunning:${id}:${attempt}`,
    action: 'invoice.payment_failed',
    target: id,
    payload: {
      attempt,
      amount_cents: amountCents,
      currency,
      attempted_at: attemptedAt(payment),
      next_attempt_at: nextAttemptAt && toWireTime(nextAttemptAt),
      ...source,
    },
  };
  if (unasked !== null) return [audit];
  const data = { plan, begins, over, attempt, amountCents, currency, nextAttemptAt, payUrl };
  return [audit, { kind: 'mail', key: mailKey(invoice), template: 'payment_failed', data }];
}

function actionRequired({ invoice, payment }: InvoiceFacts, circumstances: Circumstances): Effect[] {
  const { plan, begins, over, unasked, source } = circumstances;
  const { id, amount_remaining: amountCents, currency } = invoice;
  const attempt = attemptOf(invoice);
  const payUrl = invoice.hosted_invoice_url ?? null;
  const audit: Effect = {
    kind: 'audit',
    key: `action_required:${id}:${attempt}`,
    action: 'invoice.payment_action_required',
    target: id,
    payload: {
      attempt,
      amount_cents: amountCents,
      currency,
      attempted_at: attemptedAt(payment),
      ...source,
    },
  };
  if (unasked !== null) return [audit];
  const data = { plan, begins, over, amountCents, currency, payUrl };
  return [audit, { kind: 'mail', key: mailKey(invoice), template: 'payment_action_required', data }];
}

/**
 * One mail for each attempt, whichever of the two it is: who fails to confirm has seen so on the page, and its link
 * still leads to where the invoice can be paid in any other way.
 */
const mailKey = (invoice: Stripe.Invoice): string => `dunning:${invoice.id}:${attemptOf(invoice)}`;

/** Stripe's own count, which knows no attempt before the first. */
const attemptOf = ({ attempt_count }: Stripe.Invoice): number => Math.max(1, attempt_count);

/** When Stripe last tried; null where it did not get as far as a charge. */
function attemptedAt(payment: Stripe.PaymentIntent | null): string | null {
  const charge = payment?.latest_charge ?? null;
  return charge === null || typeof charge === 'string' ? null : toWireTime(fromUnix(charge.created));
}

const fromUnix = (seconds: number): Date => new Date(seconds * 1000);

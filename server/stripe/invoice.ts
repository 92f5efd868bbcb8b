import type Stripe from 'stripe';
import { toWireTime } from '../../shared/time.ts';
import type { Plan } from '../notify/templates.ts';
import type { Effect, Source } from './effects.ts';

export type InvoiceNews = 'paid' | 'payment_failed' | 'payment_action_required';

const GRACE_MS = 7 * 86_400_000;

/**
 * What follows from an invoice as it is now, after Stripe told us some news of it. News that time has overtaken
 * (a failure of what is paid by now) is written down as resolved and mails nobody.
 */
export function effectsOfInvoice(
  invoice: Stripe.Invoice,
  news: InvoiceNews,
  { plan, source }: { plan: Plan | null; source: Source },
): Effect[] {
  const settled = invoice.status === 'paid' || invoice.status === 'void';
  switch (news) {
    case 'paid':
      return invoice.status === 'paid' ? paid(invoice, source) : [];
    case 'payment_failed':
      return settled ? resolved(invoice, source) : failed(invoice, plan, source);
    case 'payment_action_required':
      return settled ? [] : actionRequired(invoice, plan, source);
  }
}

function paid(invoice: Stripe.Invoice, source: Source): Effect[] {
  const { id, amount_paid: amountCents, currency, number, hosted_invoice_url } = invoice;
  const paidAt = fromUnix(invoice.status_transitions.paid_at ?? invoice.created);
  const audit: Effect = {
    kind: 'audit',
    key: `paid:${id}`,
    action: 'invoice.paid',
    target: id,
    payload: { amount_cents: amountCents, currency, number, paid_at: toWireTime(paidAt), ...source },
  };
  if (amountCents === 0) return [audit];
  const lines = invoice.lines.data.map(({ description, amount }) => ({
    description: description ?? 'Subscription',
    amountCents: amount,
  }));
  const taxCents = amountCents - lines.reduce((sum, line) => sum + line.amountCents, 0);
  const invoiceNumber = number ?? null;
  const hostedInvoiceUrl = hosted_invoice_url ?? null;
  const data = { amountCents, currency, paidAt, invoiceNumber, lines, taxCents, hostedInvoiceUrl };
  return [audit, { kind: 'mail', key: `paid:${id}`, template: 'payment_receipt', data }];
}

function resolved(invoice: Stripe.Invoice, source: Source): Effect[] {
  return [
    {
      kind: 'audit',
      key: `dunning_resolved:${invoice.id}:${invoice.attempt_count}`,
      action: 'invoice.payment_failure_resolved',
      target: invoice.id,
      payload: { attempt: invoice.attempt_count, status: invoice.status, ...source },
    },
  ];
}

function failed(invoice: Stripe.Invoice, plan: Plan | null, source: Source): Effect[] {
  const { id, amount_remaining: amountCents, currency } = invoice;
  const attempt = Math.max(1, invoice.attempt_count);
  const nextAttemptAt = invoice.next_payment_attempt === null ? null : fromUnix(invoice.next_payment_attempt);
  const due = fromUnix(invoice.status_transitions.finalized_at ?? invoice.created);
  const planUntil = plan && new Date(due.getTime() + GRACE_MS);
  const payUrl = invoice.hosted_invoice_url ?? null;
  return [
    {
      kind: 'audit',
      key: `dunning:${id}:${attempt}`,
      action: 'invoice.payment_failed',
      target: id,
      payload: {
        attempt,
        amount_cents: amountCents,
        currency,
        next_attempt_at: nextAttemptAt && toWireTime(nextAttemptAt),
        ...source,
      },
    },
    {
      kind: 'mail',
      key: `dunning:${id}:${attempt}`,
      template: 'payment_failed',
      data: { plan, attempt, amountCents, currency, nextAttemptAt, planUntil, payUrl },
    },
  ];
}

function actionRequired(invoice: Stripe.Invoice, plan: Plan | null, source: Source): Effect[] {
  const { id, amount_remaining: amountCents, currency, attempt_count: attempt } = invoice;
  const key = `action_required:${id}:${attempt}`;
  const payUrl = invoice.hosted_invoice_url ?? null;
  return [
    {
      kind: 'audit',
      key,
      action: 'invoice.payment_action_required',
      target: id,
      payload: { attempt, amount_cents: amountCents, currency, ...source },
    },
    {
      kind: 'mail',
      key,
      template: 'payment_action_required',
      data: { plan, amountCents, currency, payUrl },
    },
  ];
}

const fromUnix = (seconds: number): Date => new Date(seconds * 1000);

import type Stripe from 'stripe';
import type { EmailTemplates } from '../../../notify/templates.ts';
import { idOf } from '../purchase/purchase.ts';

type Receipt = EmailTemplates['payment_receipt'];

/**
 * What a paid invoice says, in Stripe's own figures. What they do not explain is left out and given no name: the
 * way to the total where its parts do not add up to it (or where `lines` is null, because there are too many to
 * read), and the way from the total to what was paid.
 */
export function receiptOf(
  invoice: Stripe.Invoice,
  lines: readonly Stripe.InvoiceLineItem[] | null,
  names: ReadonlyMap<string, string>,
): Receipt {
  const { amount_paid: amountCents, currency, number, hosted_invoice_url, total } = invoice;
  return {
    amountCents,
    currency,
    paidAt: paidAt(invoice),
    invoiceNumber: number ?? null,
    charges: lines && chargesOf(invoice, lines, names),
    totalCents: total,
    includedTaxCents: taxCents(invoice, 'inclusive'),
    settlement: settlementOf(invoice),
    hostedInvoiceUrl: hosted_invoice_url ?? null,
  };
}

export function paidAt({ status_transitions, created }: Stripe.Invoice): Date {
  return new Date((status_transitions.paid_at ?? created) * 1000);
}

/** All tax, or only that which is part of the lines (`inclusive`) or comes on top of them (`exclusive`). */
export function taxCents({ total_taxes }: Stripe.Invoice, behavior?: 'inclusive' | 'exclusive'): number {
  const taxes = total_taxes ?? [];
  return sum(taxes.filter((tax) => behavior === undefined || tax.tax_behavior === behavior));
}

export function discountCents({ total_discount_amounts }: Stripe.Invoice): number {
  return sum(total_discount_amounts ?? []);
}

/**
 * What the customer's balance did to the amount due: below zero where credit paid, above where something owed from
 * before was added. Null for an invoice that is not final.
 */
export function balanceCents({ starting_balance, ending_balance }: Stripe.Invoice): number | null {
  return ending_balance === null ? null : starting_balance - ending_balance;
}

/** From the lines to the total, or null where there is no such way. */
function chargesOf(
  invoice: Stripe.Invoice,
  lines: readonly Stripe.InvoiceLineItem[],
  names: ReadonlyMap<string, string>,
): Receipt['charges'] {
  const discounts = (invoice.total_discount_amounts ?? []).map(({ amount, discount }) => ({
    name: names.get(idOf(discount) ?? '') ?? null,
    amountCents: amount,
  }));
  // Discounts are listed here once more.
  const credits = (invoice.total_pretax_credit_amounts ?? []).filter(({ type }) => type !== 'discount');
  const charges = {
    lines: lines.map(({ description, amount }) => ({ description, amountCents: amount })),
    discounts,
    creditsCents: sum(credits),
    shippingCents: invoice.amount_shipping ?? 0,
    taxCents: taxCents(invoice, 'exclusive'),
  };
  const total =
    sum(lines) - discountCents(invoice) - charges.creditsCents + charges.shippingCents + charges.taxCents;
  return total === invoice.total ? charges : null;
}

/** From the total to what was paid, or null where there is no such way. */
function settlementOf(invoice: Stripe.Invoice): Receipt['settlement'] {
  const { total, amount_due, amount_paid, pre_payment_credit_notes_amount: creditNotesCents } = invoice;
  const balance = balanceCents(invoice);
  if (balance === null || total + balance - creditNotesCents !== amount_due || amount_due !== amount_paid)
    return null;
  return { balanceCents: balance, creditNotesCents };
}

const sum = (entries: readonly { amount: number }[]): number =>
  entries.reduce((total, { amount }) => total + amount, 0);

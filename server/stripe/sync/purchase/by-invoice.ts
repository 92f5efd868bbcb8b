import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import { readPayment, together } from './payment.ts';
import { type Cost, idOf, type PackPurchase, packPurchase, plus } from './purchase.ts';
import type { Catalogue, Named } from './sold.ts';

/** What an invoice sold beside subscriptions of ours. */
export type InvoicePurchase = {
  /** Null where the invoice sold no trial pack. */
  pack: PackPurchase | null;
  /** What cost something and is neither a subscription of ours nor a pack. */
  strange: readonly Stripe.InvoiceLineItem[];
};

type Reads = Pick<
  StripeCalls,
  'listInvoicePayments' | 'readPaymentIntent' | 'listDisputes' | 'findCheckoutSession'
>;

/** What we sell, and the subscriptions that we understand: their lines cost neither a call nor a statement. */
export type Known = { catalogue: Catalogue; ours: ReadonlySet<string> };

/** Reads what an invoice sold: staff can put the trial pack's price onto one, alone or beside a subscription. */
export async function readInvoicePurchase(
  stripe: Reads,
  { catalogue, ours }: Known,
  { invoice, lines }: { invoice: Stripe.Invoice; lines: readonly Stripe.InvoiceLineItem[] | null },
): Promise<InvoicePurchase> {
  const strange: Stripe.InvoiceLineItem[] = [];
  let cost: Cost | null = null;
  // More than a thousand lines are no purchase of ours.
  for (const line of lines ?? []) {
    const price = priceOf(line);
    const subscription = subscriptionOf(line);
    if (subscription !== null && ours.has(subscription)) continue;
    if (price !== null && subscription === null && (await catalogue.isPack(price)))
      cost = plus(cost, line.quantity, costOf(line));
    else if (costOf(line) > 0 && !(price !== null && (await catalogue.isPlan(price)))) strange.push(line);
  }
  return { pack: cost && (await packOf(stripe, invoice, cost)), strange };
}

async function packOf(stripe: Reads, invoice: Stripe.Invoice, cost: Cost): Promise<PackPurchase> {
  const { id, currency, status_transitions: times, created } = invoice;
  const payments = [];
  const settled = invoice.status === 'paid' && invoice.amount_paid > 0;
  for (const { payment } of settled ? await stripe.listInvoicePayments(id) : []) {
    const paymentIntent = idOf(payment.payment_intent);
    if (paymentIntent !== null) payments.push(await readPayment(stripe, paymentIntent));
  }
  const payment = together(payments);
  const session =
    payment.paymentIntentId === null ? null : await stripe.findCheckoutSession(payment.paymentIntentId);
  return packPurchase({
    // Stripe can make an invoice of what was paid for in a session: one purchase, known by the session.
    boughtIn: session?.id ?? id,
    paid: invoice.status === 'paid',
    paidAtSeconds: payment.paidAtSeconds ?? times.paid_at ?? created,
    currency,
    cost,
    payment,
  });
}

/** The subscription that a line bills; null for a line of its own, be it on a subscription's invoice. */
function subscriptionOf({ parent }: Stripe.InvoiceLineItem): string | null {
  const item = parent?.invoice_item_details;
  return parent?.subscription_item_details?.subscription ?? (item?.proration ? item.subscription : null);
}

function priceOf({ pricing }: Stripe.InvoiceLineItem): Named | null {
  const details = pricing?.price_details;
  const id = details && idOf(details.price);
  if (!details || !id) return null;
  return { id, product: details.product, whole: typeof details.price === 'string' ? null : details.price };
}

/** What is to be paid for a line: less its discounts, and with the taxes that come on top. */
export function costOf({ amount, discount_amounts, taxes }: Stripe.InvoiceLineItem): number {
  const off = (discount_amounts ?? []).reduce((sum, discount) => sum + discount.amount, 0);
  const onTop = (taxes ?? []).filter(({ tax_behavior }) => tax_behavior === 'exclusive');
  return amount - off + onTop.reduce((sum, tax) => sum + tax.amount, 0);
}

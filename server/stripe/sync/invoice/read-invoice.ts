import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import type { DiscountNames, InvoiceFacts, InvoiceNews } from './invoice.ts';

/**
 * Reads an invoice that Stripe told us some news of, with what decides what is said about it, where anything is: for
 * a receipt the names of its discounts, for a payment that did not go through the payment it waits for. Null when
 * Stripe does not know the invoice. One call for most; two more where money is due, one more for each hundred lines beyond ten.
 */
export async function readInvoiceFacts(
  stripe: StripeCalls,
  id: string,
  news: InvoiceNews,
): Promise<InvoiceFacts | null> {
  const invoice = await stripe.readInvoice(id);
  if (invoice === null) return null;
  const isDue = invoice.status === 'open' || invoice.status === 'uncollectible';
  const matters = news === 'paid' ? invoice.status === 'paid' : isDue;
  if (!matters) return { news, invoice, lines: null, discountNames: new Map(), payment: null };
  return {
    news,
    invoice,
    lines: await stripe.readInvoiceLines(invoice),
    discountNames: news === 'paid' ? await namesOf(stripe, invoice) : new Map(),
    payment: news === 'paid' ? null : await stripe.readOpenPayment(id),
  };
}

async function namesOf(stripe: StripeCalls, invoice: Stripe.Invoice): Promise<DiscountNames> {
  if (!invoice.total_discount_amounts?.length) return new Map();
  const discounts = await stripe.readDiscounts(invoice.id);
  return new Map(
    discounts.flatMap((discount) => {
      const name = nameOf(discount);
      return name === null ? [] : [[discount.id, name]];
    }),
  );
}

/** The code that was entered, or what the coupon is called; a coupon need not be called anything. */
function nameOf({
  promotion_code: promotion,
  source,
}: Stripe.Discount | Stripe.DeletedDiscount): string | null {
  if (promotion !== null && typeof promotion !== 'string') return promotion.code;
  const { coupon } = source;
  return coupon === null || typeof coupon === 'string' ? null : coupon.name;
}

import type Stripe from 'stripe';
import type { Thing } from './scripted-stripe.ts';
import { type Bench, NOW } from './stripe.ts';

const SECONDS = NOW.getTime() / 1000;

/** A paid invoice of $99.00 by hand, as far as we read one; a test writes what its case needs. */
export function invoice(
  { stripe }: Bench,
  customer: string,
  members: Partial<Stripe.Invoice> = {},
): Stripe.Invoice & Thing {
  const id = stripe.newId('in');
  const of = {
    id,
    object: 'invoice' as const,
    customer,
    created: SECONDS,
    currency: 'usd',
    status: 'paid',
    number: 'D-0001',
    billing_reason: 'manual',
    collection_method: 'charge_automatically',
    parent: null,
    lines: lines([{ amount: 9_900, description: 'API Builder' }]),
    subtotal: 9_900,
    total: 9_900,
    total_discount_amounts: [],
    total_pretax_credit_amounts: [],
    total_taxes: [],
    amount_shipping: 0,
    starting_balance: 0,
    ending_balance: 0,
    pre_payment_credit_notes_amount: 0,
    post_payment_credit_notes_amount: 0,
    amount_due: 9_900,
    amount_overpaid: 0,
    amount_paid: 9_900,
    amount_remaining: 0,
    attempt_count: 1,
    attempted: true,
    next_payment_attempt: null,
    hosted_invoice_url: `https://invoice.stripe.com/i/${id}`,
    status_transitions: {
      finalized_at: SECONDS - 3_600,
      paid_at: SECONDS,
      voided_at: null,
      marked_uncollectible_at: null,
    },
    ...members,
  } satisfies Partial<Stripe.Invoice> & Thing;
  // The rest of an invoice is never read.
  return stripe.put(of as Stripe.Invoice & Thing);
}

/** The same, still to be paid after a first attempt. */
export function openInvoice(bench: Bench, customer: string, members: Partial<Stripe.Invoice> = {}) {
  return invoice(bench, customer, {
    status: 'open',
    amount_paid: 0,
    amount_remaining: 9_900,
    next_payment_attempt: SECONDS + 3 * 86_400,
    status_transitions: {
      finalized_at: SECONDS - 3_600,
      paid_at: null,
      voided_at: null,
      marked_uncollectible_at: null,
    },
    ...members,
  });
}

type Line = Partial<Stripe.InvoiceLineItem> & { amount: number };

/** Lines as an invoice lists them, with ids in their order. */
export function lines(given: readonly Line[]): Stripe.ApiList<Stripe.InvoiceLineItem> {
  const data = given.map((line, at) => ({
    id: `il_${at}`,
    object: 'line_item' as const,
    description: null,
    parent: null,
    pricing: null,
    ...line,
  }));
  // The rest of a line is never read.
  return { object: 'list', data: data as unknown as Stripe.InvoiceLineItem[], has_more: false, url: '' };
}

/** A line that bills a subscription's price, for a period that begins at the moment given. */
export function periodLine(
  subscription: string,
  lookupKey: string,
  {
    amount,
    startsAt = SECONDS,
    proration = false,
  }: { amount: number; startsAt?: number; proration?: boolean },
): Line {
  return {
    amount,
    description: lookupKey,
    period: { start: startsAt, end: startsAt + 30 * 86_400 },
    parent: {
      type: 'subscription_item_details',
      invoice_item_details: null,
      subscription_item_details: {
        invoice_item: null,
        proration,
        proration_details: null,
        subscription,
        subscription_item: 'si_1',
      },
    },
    pricing: {
      type: 'price_details',
      price_details: { price: `price_${lookupKey}`, product: 'prod_1' },
      unit_amount_decimal: null,
    },
  };
}

/** What an invoice says of the subscription it bills. */
export function ofSubscription(subscription: string): Pick<Stripe.Invoice, 'parent'> {
  return {
    parent: {
      type: 'subscription_details',
      quote_details: null,
      subscription_details: { metadata: {}, subscription },
    },
  };
}

/** The payment that an open invoice waits for. */
export function openPayment(
  { stripe }: Bench,
  invoiceId: string,
  members: Partial<Stripe.PaymentIntent>,
): string {
  const intent = stripe.newId('pi');
  stripe.put({
    latest_charge: null,
    last_payment_error: null,
    ...members,
    id: intent,
    object: 'payment_intent',
  });
  stripe.put({
    id: stripe.newId('inpay'),
    object: 'invoice_payment',
    invoice: invoiceId,
    is_default: true,
    status: 'open',
    payment: { type: 'payment_intent', payment_intent: intent },
  });
  return intent;
}

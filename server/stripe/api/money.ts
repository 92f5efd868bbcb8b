import type Stripe from 'stripe';
import type { Caller } from './caller.ts';
import { isRefused, stripeCode } from './refusal.ts';

const PAGE = 100;
/** Far more than Stripe puts on an invoice; who wants a longer one read is told that it is too long. */
const LINES = 1_000;

/** The calls that read what was asked for, paid and given back: invoices, payments, refunds and disputes. */
export function moneyCalls({ stripe, call, found, all }: Caller) {
  /** With its latest charge, and the movement of our balance by it, in place of their ids. */
  const readPaymentIntent = (id: string) =>
    found(
      call<Stripe.PaymentIntent>('payment_intent', (options) =>
        stripe.paymentIntents.retrieve(id, { expand: ['latest_charge.balance_transaction'] }, options),
      ),
    );
  return {
    /**
     * What the next renewal will be; null when there is none to come. Where changes are booked on a subscription,
     * its schedule is asked for, which knows them.
     */
    previewRenewal: async ({ id, schedule }: Stripe.Subscription): Promise<Stripe.Invoice | null> => {
      const booked = schedule !== null && typeof schedule === 'object' && schedule.status === 'active';
      const about = booked ? { schedule: schedule.id } : { subscription: id };
      try {
        return await found(
          call<Stripe.Invoice>('invoice', (options) => stripe.invoices.createPreview(about, options)),
        );
      } catch (error) {
        // It was cancelled after Stripe had announced the renewal.
        if (stripeCode(error) === 'invoice_upcoming_none') return null;
        throw error;
      }
    },

    readInvoice: (id: string) =>
      found(call<Stripe.Invoice>('invoice', (options) => stripe.invoices.retrieve(id, {}, options))),

    /**
     * All lines of an invoice, of which Stripe puts the first ten into it: the others are asked for, a hundred at a
     * time. Null where there are more than a thousand or Stripe no longer knows them, so that half a list is never
     * taken for the whole.
     */
    readInvoiceLines: async ({ id, lines }: Stripe.Invoice): Promise<Stripe.InvoiceLineItem[] | null> => {
      const all = [...lines.data];
      for (let more = lines.has_more; more; ) {
        if (all.length >= LINES) return null;
        const after = all.at(-1);
        const page = await found(
          call<Stripe.ApiList<Stripe.InvoiceLineItem>>('list', (options) =>
            stripe.invoices.listLineItems(
              id,
              { limit: PAGE, ...(after && { starting_after: after.id }) },
              options,
            ),
          ),
        );
        if (page === null) return null;
        if (page.has_more && page.data.length === 0) return null;
        all.push(...page.data);
        more = page.has_more;
      }
      return all;
    },

    /** Every paid invoice of a subscription, newest first. */
    listPaidInvoices: (subscription: string): Promise<Stripe.Invoice[]> =>
      all((options, after) =>
        stripe.invoices.list({ subscription, status: 'paid', limit: PAGE, ...after }, options),
      ),

    /** The discounts of an invoice with their coupons and promotion codes; none where Stripe will not show them. */
    readDiscounts: async (invoice: string): Promise<(Stripe.Discount | Stripe.DeletedDiscount)[]> => {
      const discount = 'total_discount_amounts.discount';
      const expand = [`${discount}.promotion_code`, `${discount}.source.coupon`];
      try {
        const { total_discount_amounts } = await call<Stripe.Invoice>('invoice', (options) =>
          stripe.invoices.retrieve(invoice, { expand }, options),
        );
        return (total_discount_amounts ?? []).flatMap(({ discount: one }) =>
          typeof one === 'string' ? [] : [one],
        );
      } catch (error) {
        // Only their names are missing then, which a receipt can do without.
        if (isRefused(error)) return [];
        throw error;
      }
    },

    /** The payment that an unpaid invoice waits for, with its latest charge; null where there is none. */
    readOpenPayment: async (invoice: string): Promise<Stripe.PaymentIntent | null> => {
      const list = await call<Stripe.ApiList<Stripe.InvoicePayment>>('list', (options) =>
        stripe.invoicePayments.list({ invoice, status: 'open', limit: PAGE }, options),
      );
      const open = list.data.filter(({ status }) => status === 'open');
      const intent = (open.find(({ is_default }) => is_default) ?? open[0])?.payment.payment_intent;
      if (intent === undefined) return null;
      return await readPaymentIntent(typeof intent === 'string' ? intent : intent.id);
    },

    /** The payments that settled an invoice. */
    listInvoicePayments: (invoice: string): Promise<Stripe.InvoicePayment[]> =>
      all((options, after) =>
        stripe.invoicePayments.list({ invoice, status: 'paid', limit: PAGE, ...after }, options),
      ),

    readPaymentIntent,

    readCharge: (id: string) =>
      found(call<Stripe.Charge>('charge', (options) => stripe.charges.retrieve(id, {}, options))),

    readDispute: (id: string) =>
      found(call<Stripe.Dispute>('dispute', (options) => stripe.disputes.retrieve(id, {}, options))),

    readRefund: (id: string) =>
      found(call<Stripe.Refund>('refund', (options) => stripe.refunds.retrieve(id, {}, options))),

    /** The invoice that a payment settled; null for a payment of anything else. */
    findInvoiceOfPayment: async (paymentIntent: string): Promise<string | null> => {
      const list = await call<Stripe.ApiList<Stripe.InvoicePayment>>('list', (options) =>
        stripe.invoicePayments.list(
          { payment: { type: 'payment_intent', payment_intent: paymentIntent }, limit: 1 },
          options,
        ),
      );
      const invoice = list.data[0]?.invoice ?? null;
      return typeof invoice === 'object' ? (invoice?.id ?? null) : invoice;
    },

    /**
     * The invoices of a customer that were made since a moment (unix seconds) and are paid, with their payments; the
     * newest hundred.
     */
    listInvoicesPaidBy: async (customer: string, sinceS: number): Promise<Stripe.Invoice[]> => {
      const list = await found(
        call<Stripe.ApiList<Stripe.Invoice>>('list', (options) =>
          stripe.invoices.list(
            { customer, status: 'paid', created: { gte: sinceS }, limit: PAGE, expand: ['data.payments'] },
            options,
          ),
        ),
      );
      return list?.data ?? [];
    },

    /** The charges of a customer since a moment (unix seconds), whatever they were for; the newest hundred. */
    listCharges: async (customer: string, sinceS: number): Promise<Stripe.Charge[]> => {
      const list = await found(
        call<Stripe.ApiList<Stripe.Charge>>('list', (options) =>
          stripe.charges.list({ customer, created: { gte: sinceS }, limit: PAGE }, options),
        ),
      );
      return list?.data ?? [];
    },

    /** What an invoice sold, with its prices in place of their ids; the first hundred lines. */
    listInvoiceLines: async (invoice: string): Promise<Stripe.InvoiceLineItem[]> => {
      const list = await found(
        call<Stripe.ApiList<Stripe.InvoiceLineItem>>('list', (options) =>
          stripe.invoices.listLineItems(
            invoice,
            { limit: PAGE, expand: ['data.pricing.price_details.price'] },
            options,
          ),
        ),
      );
      return list?.data ?? [];
    },

    listDisputes: async (paymentIntent: string): Promise<Stripe.Dispute[]> => {
      const list = await call<Stripe.ApiList<Stripe.Dispute>>('list', (options) =>
        stripe.disputes.list({ payment_intent: paymentIntent, limit: PAGE }, options),
      );
      return list.data;
    },
  };
}

import type Stripe from 'stripe';
import type { Caller } from './caller.ts';
import { isRefused, stripeCode } from './refusal.ts';

const PAGE = 100;
/** Far more than Stripe puts on an invoice; who wants a longer one read is told that it is too long. */
const LINES = 1_000;

/** The calls that read what Stripe holds and change nothing. */
export function readingCalls({ stripe, call, found }: Caller) {
  /** With its latest charge, and the movement of our balance by it, in place of their ids. */
  const readPaymentIntent = (id: string) =>
    found(
      call<Stripe.PaymentIntent>('payment_intent', (options) =>
        stripe.paymentIntents.retrieve(id, { expand: ['latest_charge.balance_transaction'] }, options),
      ),
    );
  /** All that a list holds, page by page. */
  const all = async <T extends { id: string }>(
    ask: (options: { timeout: number }, after: { starting_after?: string }) => Promise<Stripe.ApiList<T>>,
  ): Promise<T[]> => {
    const seen: T[] = [];
    for (;;) {
      const last = seen.at(-1);
      const after = last ? { starting_after: last.id } : {};
      const page = await call<Stripe.ApiList<T>>('list', (options) => ask(options, after));
      seen.push(...page.data);
      if (!page.has_more || page.data.length === 0) return seen;
    }
  };
  return {
    /** Null when Stripe does not know the customer; a deleted one says so itself. */
    readCustomer: (id: string) =>
      found(
        call<Stripe.Customer | Stripe.DeletedCustomer>('customer', (options) =>
          stripe.customers.retrieve(id, {}, options),
        ),
      ),

    readPrice: (id: string) =>
      found(call<Stripe.Price>('price', (options) => stripe.prices.retrieve(id, {}, options))),

    readProduct: (id: string) =>
      found(call<Stripe.Product>('product', (options) => stripe.products.retrieve(id, {}, options))),

    readSubscription: (id: string) =>
      found(
        call<Stripe.Subscription>('subscription', (options) =>
          stripe.subscriptions.retrieve(id, {}, options),
        ),
      ),

    /** Every subscription the customer ever had, newest first, with the schedules that are booked on them. */
    listSubscriptions: (customer: string): Promise<Stripe.Subscription[]> =>
      all((options, after) =>
        stripe.subscriptions.list(
          { customer, status: 'all', limit: PAGE, expand: ['data.schedule'], ...after },
          options,
        ),
      ),

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

    /** All that a session sells: the first ten come with it, and there can be a hundred. */
    readSessionLines: async ({
      id,
      line_items: lines,
    }: Stripe.Checkout.Session): Promise<Stripe.LineItem[]> => {
      if (lines && !lines.has_more) return lines.data;
      const list = await call<Stripe.ApiList<Stripe.LineItem>>('list', (options) =>
        stripe.checkout.sessions.listLineItems(id, { limit: PAGE }, options),
      );
      return list.data;
    },

    /** The session in which a payment was made; null for a payment made in any other way. */
    findCheckoutSession: async (paymentIntent: string): Promise<Stripe.Checkout.Session | null> => {
      const list = await call<Stripe.ApiList<Stripe.Checkout.Session>>('list', (options) =>
        stripe.checkout.sessions.list(
          { payment_intent: paymentIntent, limit: 1, expand: ['data.line_items'] },
          options,
        ),
      );
      return list.data[0] ?? null;
    },

    /**
     * The completed Checkout sessions of a customer, whoever made them; the newest hundred, which is far more than
     * anybody pays for. None where Stripe no longer tells those of a customer it has deleted.
     */
    listCompletedSessions: async (customer: string): Promise<Stripe.Checkout.Session[]> => {
      const list = await found(
        call<Stripe.ApiList<Stripe.Checkout.Session>>('list', (options) =>
          stripe.checkout.sessions.list(
            { customer, status: 'complete', limit: PAGE, expand: ['data.line_items'] },
            options,
          ),
        ),
      );
      return list?.data ?? [];
    },

    /**
     * One page of the events of these types since a moment (unix seconds), newest first; `after` is the last one
     * seen. Null when Stripe no longer knows that one: it keeps events for 30 days.
     */
    listEvents: ({
      types,
      sinceS,
      after,
    }: {
      types: readonly string[];
      sinceS: number;
      after: string | null;
    }): Promise<Stripe.ApiList<Stripe.Event> | null> => {
      const page = call<Stripe.ApiList<Stripe.Event>>('list', (options) =>
        stripe.events.list(
          {
            types: [...types],
            created: { gte: sinceS },
            limit: PAGE,
            ...(after !== null && { starting_after: after }),
          },
          options,
        ),
      );
      return after === null ? page : found(page);
    },

    listDisputes: async (paymentIntent: string): Promise<Stripe.Dispute[]> => {
      const list = await call<Stripe.ApiList<Stripe.Dispute>>('list', (options) =>
        stripe.disputes.list({ payment_intent: paymentIntent, limit: PAGE }, options),
      );
      return list.data;
    },
  };
}

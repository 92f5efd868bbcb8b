import Stripe from 'stripe';
import { ProblemError } from '../../shared/errors.ts';
import { callStripe, isMissing, type Patience, stripeCode } from './call.ts';

export type StripeConnection = {
  secretKey: string;
  /** Origin of Stripe's API, such as `https://api.stripe.com`. */
  apiBase: string;
  /** The longest that one try may take. */
  timeoutMs?: number;
};

const TIMEOUT_MS = 8_000;
/** Room for one try and its retry; a use case with several calls sets a budget for all of them by `within`. */
const CALL_MS = 18_000;
const REMEMBERED_MS = 5 * 60_000;
const PAGE = 100;

export type Refunded = 'refunded' | 'nothing_left' | 'charged_back';

export type StripeCalls = ReturnType<typeof callsTo>;

export type StripeGateway = StripeCalls & {
  /** The same calls, all of which together end within the time given. */
  within(ms: number): StripeCalls;
  /** The SDK itself, for setting up alone. */
  sdk: Stripe;
};

/**
 * The calls we make to Stripe, under our names, through the SDK and its pinned API version. Each ends within
 * its budget and throws a `ProblemError` that a caller may see.
 */
export function connectStripe({
  secretKey,
  apiBase,
  timeoutMs = TIMEOUT_MS,
}: StripeConnection): StripeGateway {
  const { hostname, port, protocol } = new URL(apiBase);
  const secure = protocol === 'https:';
  const stripe = new Stripe(secretKey, {
    host: hostname,
    port: port === '' ? (secure ? 443 : 80) : port,
    protocol: secure ? 'https' : 'http',
    timeout: timeoutMs,
    maxNetworkRetries: 1,
    telemetry: false,
  });
  const terms: Terms = { timeoutMs, endsAtMs: null, prices: new Map(), portal: { readAtMs: 0 } };
  return {
    ...callsTo(stripe, terms),
    within: (ms) => callsTo(stripe, { ...terms, endsAtMs: performance.now() + ms }),
    sdk: stripe,
  };
}

type Terms = {
  timeoutMs: number;
  /** When all calls together have to be over, or null for a budget of its own for each. */
  endsAtMs: number | null;
  prices: Map<string, { id: string; readAtMs: number }>;
  portal: { id?: string | null; readAtMs: number };
};

function callsTo(stripe: Stripe, terms: Terms) {
  const patience = (): Patience => ({
    tryMs: terms.timeoutMs,
    endsAtMs: terms.endsAtMs ?? performance.now() + CALL_MS,
  });
  const call = <T extends { object: string }>(
    expected: T['object'],
    attempt: (options: { timeout: number }) => Promise<T>,
  ) => callStripe(patience(), expected, attempt);
  const found = async <T>(reading: Promise<T>): Promise<T | null> => {
    try {
      return await reading;
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  };

  return {
    /** Creates a customer; the same key always gives the same one. */
    createCustomer: (params: Stripe.CustomerCreateParams, idempotencyKey: string) =>
      call<Stripe.Customer>('customer', (options) =>
        stripe.customers.create(params, { ...options, idempotencyKey }),
      ),

    /** The customers with exactly this address, newest first; the newest hundred. */
    listCustomers: async (email: string): Promise<Stripe.Customer[]> => {
      const list = await call<Stripe.ApiList<Stripe.Customer>>('list', (options) =>
        stripe.customers.list({ email, limit: PAGE }, options),
      );
      return list.data;
    },

    /** Null when Stripe does not know the customer; a deleted one says so itself. */
    readCustomer: (id: string) =>
      found(
        call<Stripe.Customer | Stripe.DeletedCustomer>('customer', (options) =>
          stripe.customers.retrieve(id, {}, options),
        ),
      ),

    /** The id of the active price under a lookup key, remembered for five minutes. */
    priceId: async (lookupKey: string): Promise<string> => {
      const known = terms.prices.get(lookupKey);
      if (known && performance.now() - known.readAtMs < REMEMBERED_MS) return known.id;
      const list = await call<Stripe.ApiList<Stripe.Price>>('list', (options) =>
        stripe.prices.list({ lookup_keys: [lookupKey], active: true, limit: 1 }, options),
      );
      const price = list.data[0];
      if (!price) {
        throw new ProblemError(
          'feature-unavailable',
          `Stripe has no price with the lookup key ${lookupKey} yet. The operator of this deployment creates the prices with: npm run cli -- stripe setup`,
        );
      }
      terms.prices.set(lookupKey, { id: price.id, readAtMs: performance.now() });
      return price.id;
    },

    /** Makes the next `priceId` ask Stripe again, for everybody. */
    forgetPrices: () => terms.prices.clear(),

    readPrice: (id: string) =>
      found(call<Stripe.Price>('price', (options) => stripe.prices.retrieve(id, {}, options))),

    readProduct: (id: string) =>
      found(call<Stripe.Product>('product', (options) => stripe.products.retrieve(id, {}, options))),

    createCheckoutSession: (params: Stripe.Checkout.SessionCreateParams, idempotencyKey: string) =>
      call<Stripe.Checkout.Session>('checkout.session', (options) =>
        stripe.checkout.sessions.create(params, { ...options, idempotencyKey }),
      ),

    readCheckoutSession: (id: string) =>
      found(
        call<Stripe.Checkout.Session>('checkout.session', (options) =>
          stripe.checkout.sessions.retrieve(id, {}, options),
        ),
      ),

    /** Throws a refusal when the session is no longer open: it has been paid for, or has expired already. */
    expireCheckoutSession: (id: string) =>
      call<Stripe.Checkout.Session>('checkout.session', (options) =>
        stripe.checkout.sessions.expire(id, {}, options),
      ),

    /** The id of the portal configuration that `setUpStripe` made, or null for the one of the Stripe account. */
    portalConfiguration: async (): Promise<string | null> => {
      const { portal } = terms;
      if (portal.id !== undefined && performance.now() - portal.readAtMs < REMEMBERED_MS) return portal.id;
      const list = await call<Stripe.ApiList<Stripe.BillingPortal.Configuration>>('list', (options) =>
        stripe.billingPortal.configurations.list({ active: true, limit: PAGE }, options),
      );
      portal.id = list.data.find(({ metadata }) => metadata?.['driftstack'] === 'portal')?.id ?? null;
      portal.readAtMs = performance.now();
      return portal.id;
    },

    createPortalSession: (params: Stripe.BillingPortal.SessionCreateParams, idempotencyKey: string) =>
      call<Stripe.BillingPortal.Session>('billing_portal.session', (options) =>
        stripe.billingPortal.sessions.create(params, { ...options, idempotencyKey }),
      ),

    /** Every subscription the customer ever had, newest first, with the schedules that are booked on them. */
    listSubscriptions: async (customer: string): Promise<Stripe.Subscription[]> => {
      const all: Stripe.Subscription[] = [];
      for (;;) {
        const after = all.at(-1);
        const page = await call<Stripe.ApiList<Stripe.Subscription>>('list', (options) =>
          stripe.subscriptions.list(
            {
              customer,
              status: 'all',
              limit: PAGE,
              expand: ['data.schedule'],
              ...(after && { starting_after: after.id }),
            },
            options,
          ),
        );
        all.push(...page.data);
        if (!page.has_more || page.data.length === 0) return all;
      }
    },

    /** Ends a subscription at once and notes why; null when it had ended or never existed. */
    cancelSubscription: (id: string, comment: string, idempotencyKey: string) =>
      found(
        call<Stripe.Subscription>('subscription', (options) =>
          stripe.subscriptions.cancel(
            id,
            { invoice_now: false, prorate: false, cancellation_details: { comment } },
            { ...options, idempotencyKey },
          ),
        ),
      ),

    /** What the next renewal will cost; null when there is none to come. */
    previewRenewal: async (subscription: string): Promise<Stripe.Invoice | null> => {
      try {
        return await found(
          call<Stripe.Invoice>('invoice', (options) =>
            stripe.invoices.createPreview({ subscription }, options),
          ),
        );
      } catch (error) {
        // It was cancelled after Stripe had announced the renewal.
        if (stripeCode(error) === 'invoice_upcoming_none') return null;
        throw error;
      }
    },

    readInvoice: (id: string) =>
      found(call<Stripe.Invoice>('invoice', (options) => stripe.invoices.retrieve(id, {}, options))),

    /** The invoices of a subscription that took money; the newest hundred. */
    listPaidInvoices: async (subscription: string): Promise<Stripe.Invoice[]> => {
      const list = await call<Stripe.ApiList<Stripe.Invoice>>('list', (options) =>
        stripe.invoices.list({ subscription, status: 'paid', limit: PAGE }, options),
      );
      return list.data.filter((invoice) => invoice.amount_paid > 0);
    },

    /** The payments that settled an invoice. */
    listInvoicePayments: async (invoice: string): Promise<Stripe.InvoicePayment[]> => {
      const list = await call<Stripe.ApiList<Stripe.InvoicePayment>>('list', (options) =>
        stripe.invoicePayments.list({ invoice, status: 'paid', limit: PAGE }, options),
      );
      return list.data;
    },

    /** With its latest charge, and the movement of our balance by it, in place of their ids. */
    readPaymentIntent: (id: string) =>
      found(
        call<Stripe.PaymentIntent>('payment_intent', (options) =>
          stripe.paymentIntents.retrieve(id, { expand: ['latest_charge.balance_transaction'] }, options),
        ),
      ),

    readCharge: (id: string) =>
      found(call<Stripe.Charge>('charge', (options) => stripe.charges.retrieve(id, {}, options))),

    readDispute: (id: string) =>
      found(call<Stripe.Dispute>('dispute', (options) => stripe.disputes.retrieve(id, {}, options))),

    readRefund: (id: string) =>
      found(call<Stripe.Refund>('refund', (options) => stripe.refunds.retrieve(id, {}, options))),

    /** The session in which a payment was made; null for a payment made in any other way. */
    findCheckoutSession: async (paymentIntent: string): Promise<Stripe.Checkout.Session | null> => {
      const list = await call<Stripe.ApiList<Stripe.Checkout.Session>>('list', (options) =>
        stripe.checkout.sessions.list({ payment_intent: paymentIntent, limit: 1 }, options),
      );
      return list.data[0] ?? null;
    },

    /** The completed Checkout sessions of a customer, whoever made them; the newest hundred, which is far more than anybody pays for. */
    listCompletedSessions: async (customer: string): Promise<Stripe.Checkout.Session[]> => {
      const list = await call<Stripe.ApiList<Stripe.Checkout.Session>>('list', (options) =>
        stripe.checkout.sessions.list({ customer, status: 'complete', limit: PAGE }, options),
      );
      return list.data;
    },

    /** One page of the events of these types since a moment (unix seconds), newest first; `after` is the last one seen. */
    listEvents: ({
      types,
      sinceS,
      after,
    }: {
      types: readonly string[];
      sinceS: number;
      after: string | null;
    }) =>
      call<Stripe.ApiList<Stripe.Event>>('list', (options) =>
        stripe.events.list(
          {
            types: [...types],
            created: { gte: sinceS },
            limit: PAGE,
            ...(after !== null && { starting_after: after }),
          },
          options,
        ),
      ),

    listDisputes: async (paymentIntent: string): Promise<Stripe.Dispute[]> => {
      const list = await call<Stripe.ApiList<Stripe.Dispute>>('list', (options) =>
        stripe.disputes.list({ payment_intent: paymentIntent, limit: PAGE }, options),
      );
      return list.data;
    },

    /**
     * Refunds all that is left of a payment; the same key never refunds twice. What the customer's bank has taken
     * back is no longer ours to give, and stays `charged_back`.
     */
    refund: async (paymentIntent: string, idempotencyKey: string): Promise<Refunded> => {
      try {
        await call<Stripe.Refund>('refund', (options) =>
          stripe.refunds.create(
            { payment_intent: paymentIntent, reason: 'duplicate' },
            { ...options, idempotencyKey },
          ),
        );
        return 'refunded';
      } catch (error) {
        const code = stripeCode(error);
        if (code === 'charge_already_refunded') return 'nothing_left';
        if (code === 'charge_disputed') return 'charged_back';
        throw error;
      }
    },
  };
}

import type Stripe from 'stripe';
import type { Caller } from './caller.ts';

const PAGE = 100;

/** The calls that read who buys what: customers, prices, subscriptions, Checkout sessions, and the events of all. */
export function readingCalls({ stripe, call, found, all }: Caller) {
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
  };
}

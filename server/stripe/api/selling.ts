import type Stripe from 'stripe';
import { ProblemError } from '../../../shared/errors.ts';
import type { Caller } from './caller.ts';

const REMEMBERED_MS = 5 * 60_000;
const PAGE = 100;

/** What hardly ever changes at Stripe, for everybody who sells over one connection. */
export type Remembered = {
  prices: Map<string, { id: string; readAtMs: number }>;
  portal: { id?: string | null; readAtMs: number };
};

/** The calls that sell: customers, prices, Checkout and the portal. */
export function sellingCalls({ stripe, call, found }: Caller, remembered: Remembered) {
  const findPortal = async (): Promise<string | null> => {
    for (let after: string | undefined; ; ) {
      const list = await call<Stripe.ApiList<Stripe.BillingPortal.Configuration>>('list', (options) =>
        stripe.billingPortal.configurations.list(
          { active: true, limit: PAGE, ...(after !== undefined && { starting_after: after }) },
          options,
        ),
      );
      const ours = list.data.find(({ metadata }) => metadata?.['driftstack'] === 'portal');
      if (ours) return ours.id;
      after = list.data.at(-1)?.id;
      if (!list.has_more || after === undefined) return null;
    }
  };
  return {
    /** Creates a customer; the same key always gives the same one. */
    createCustomer: (params: Stripe.CustomerCreateParams, idempotencyKey: string) =>
      call<Stripe.Customer>('customer', (options) =>
        stripe.customers.create(params, { ...options, idempotencyKey }),
      ),

    /** Writes another address onto a customer; the same key does it once. */
    setCustomerEmail: (id: string, email: string, idempotencyKey: string) =>
      call<Stripe.Customer>('customer', (options) =>
        stripe.customers.update(id, { email }, { ...options, idempotencyKey }),
      ),

    /** The customers with exactly this address, newest first; the newest hundred. */
    listCustomers: async (email: string): Promise<Stripe.Customer[]> => {
      const list = await call<Stripe.ApiList<Stripe.Customer>>('list', (options) =>
        stripe.customers.list({ email, limit: PAGE }, options),
      );
      return list.data;
    },

    /** The id of the active price under a lookup key, remembered for five minutes. */
    priceId: async (lookupKey: string): Promise<string> => {
      const known = remembered.prices.get(lookupKey);
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
      remembered.prices.set(lookupKey, { id: price.id, readAtMs: performance.now() });
      return price.id;
    },

    /** Makes the next `priceId` ask Stripe again, for everybody. */
    forgetPrices: () => remembered.prices.clear(),

    createCheckoutSession: (params: Stripe.Checkout.SessionCreateParams, idempotencyKey: string) =>
      call<Stripe.Checkout.Session>('checkout.session', (options) =>
        stripe.checkout.sessions.create(params, { ...options, idempotencyKey }),
      ),

    /** With what it sells. */
    readCheckoutSession: (id: string) =>
      found(
        call<Stripe.Checkout.Session>('checkout.session', (options) =>
          stripe.checkout.sessions.retrieve(id, { expand: ['line_items'] }, options),
        ),
      ),

    /** Throws a refusal when the session is no longer open: it has been paid for, or has expired already. */
    expireCheckoutSession: (id: string) =>
      call<Stripe.Checkout.Session>('checkout.session', (options) =>
        stripe.checkout.sessions.expire(id, {}, options),
      ),

    /** The id of the portal configuration that `setUpStripe` made, or null for the one of the Stripe account. */
    portalConfiguration: async (): Promise<string | null> => {
      const { portal } = remembered;
      if (portal.id !== undefined && performance.now() - portal.readAtMs < REMEMBERED_MS) return portal.id;
      portal.id = await findPortal();
      portal.readAtMs = performance.now();
      return portal.id;
    },

    /** Makes the next `portalConfiguration` ask Stripe again. */
    forgetPortal: () => {
      delete remembered.portal.id;
    },

    createPortalSession: (params: Stripe.BillingPortal.SessionCreateParams, idempotencyKey: string) =>
      call<Stripe.BillingPortal.Session>('billing_portal.session', (options) =>
        stripe.billingPortal.sessions.create(params, { ...options, idempotencyKey }),
      ),
  };
}

import type Stripe from 'stripe';
import type { WantedItem } from '../billing/subscription-object.ts';
import type { World } from '../world.ts';

/** What a Checkout Session was asked for and does not show. */
export interface CheckoutDetails {
  readonly items: readonly WantedItem[];
  readonly lineItems: Stripe.LineItem[];
  readonly subscription: {
    readonly metadata: Stripe.Metadata;
    readonly description: string | null;
    readonly trialDays: number | null;
    readonly trialEnd: number | null;
    readonly trialSettings: Stripe.Subscription.TrialSettings | null;
    readonly billingCycleAnchor: number | null;
    readonly prorate: boolean;
  };
  readonly payment: {
    readonly metadata: Stripe.Metadata;
    readonly description: string | null;
    readonly setupFutureUsage: 'off_session' | 'on_session' | null;
    readonly shipping: Stripe.PaymentIntent.Shipping | null;
    readonly receiptEmail: string | null;
  };
  /** The payment intent of the attempts so far, and the customer made for them. */
  readonly paymentIntent: string | null;
  readonly customer: string | null;
  readonly paymentMethod: string | null;
  readonly email: string | null;
}

/** What a session was asked for. */
export function checkoutDetails(world: World, session: string): CheckoutDetails {
  const found = world.hidden.get<CheckoutDetails>('checkout', session);
  if (!found) throw new Error(`the details of ${session} are gone`);
  return found;
}

/** Remembers more about a session. */
export function noteCheckout(
  world: World,
  session: string,
  change: Partial<CheckoutDetails>,
): CheckoutDetails {
  const details = { ...checkoutDetails(world, session), ...change };
  world.hidden.put('checkout', session, details);
  return details;
}

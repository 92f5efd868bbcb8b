import type Stripe from 'stripe';
import type { Caller } from './caller.ts';
import { isRefused, stripeCode } from './refusal.ts';

/** `refused`: Stripe does not refund this by a call, for want of balance or because it is too old, say. */
export type Refunded = 'refunded' | 'nothing_left' | 'charged_back' | 'refused';

/** `over`: it had ended, or never existed. `refused`: Stripe does not end it by a call. */
export type Canceled = 'canceled' | 'over' | 'refused';

/** The two calls that end something for a customer: each takes effect once under its key. */
export function endingCalls({ stripe, call, found }: Caller) {
  return {
    /** Ends a subscription at once and notes why. What Stripe refuses for good is not thrown, as with a refund. */
    cancelSubscription: async (id: string, comment: string, idempotencyKey: string): Promise<Canceled> => {
      try {
        const canceled = await found(
          call<Stripe.Subscription>('subscription', (options) =>
            stripe.subscriptions.cancel(
              id,
              { invoice_now: false, prorate: false, cancellation_details: { comment } },
              { ...options, idempotencyKey },
            ),
          ),
        );
        return canceled === null ? 'over' : 'canceled';
      } catch (error) {
        if (isRefused(error)) return 'refused';
        throw error;
      }
    },

    /**
     * Refunds so many cents of a payment, or all that is left of it; the same key never refunds twice. What the
     * customer's bank has taken back is no longer ours to give, and stays `charged_back`. What Stripe refuses for
     * good is `refused` and not thrown: it must not keep the account from all else that is told of it.
     */
    refund: async (
      paymentIntent: string,
      idempotencyKey: string,
      amountCents?: number,
    ): Promise<Refunded> => {
      try {
        await call<Stripe.Refund>('refund', (options) =>
          stripe.refunds.create(
            {
              payment_intent: paymentIntent,
              reason: 'duplicate',
              ...(amountCents !== undefined && { amount: amountCents }),
            },
            { ...options, idempotencyKey },
          ),
        );
        return 'refunded';
      } catch (error) {
        const code = stripeCode(error);
        if (code === 'charge_already_refunded') return 'nothing_left';
        if (code === 'charge_disputed') return 'charged_back';
        if (isRefused(error)) return 'refused';
        throw error;
      }
    },
  };
}

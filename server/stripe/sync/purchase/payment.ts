import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';

/** What became of the money of a purchase. */
export type PaymentFacts = {
  /** Null where nothing was charged, or where it is more than one payment. */
  paymentIntentId: string | null;
  intent: Stripe.PaymentIntent | null;
  /** What was taken, and what of that was given back; null where nothing was. */
  taken: { cents: number; refundedCents: number; currency: string } | null;
  /** When the money arrived; null where none did. */
  paidAtSeconds: number | null;
  disputeStatuses: readonly string[];
};

/** A purchase for which nothing was charged. */
export const NO_PAYMENT: PaymentFacts = {
  paymentIntentId: null,
  intent: null,
  taken: null,
  paidAtSeconds: null,
  disputeStatuses: [],
};

type Reads = Pick<StripeCalls, 'readPaymentIntent' | 'listDisputes'>;

/** Reads a payment with its charge, refunds and disputes. */
export async function readPayment(stripe: Reads, paymentIntentId: string): Promise<PaymentFacts> {
  const intent = await stripe.readPaymentIntent(paymentIntentId);
  const charge = chargeOf(intent);
  const disputes = charge?.disputed ? await stripe.listDisputes(paymentIntentId) : [];
  return {
    paymentIntentId,
    intent,
    taken: charge && {
      cents: charge.amount,
      refundedCents: charge.amount_refunded,
      currency: charge.currency,
    },
    paidAtSeconds: charge && arrivedAt(charge),
    disputeStatuses: disputes.map(({ status }) => status),
  };
}

/** Several payments of one invoice as one. Nothing is given back of them by itself: it is not clear of which. */
export function together(payments: readonly PaymentFacts[]): PaymentFacts {
  const [first, ...others] = payments;
  if (!first) return NO_PAYMENT;
  return others.reduce(
    (sum, one) => ({
      paymentIntentId: null,
      intent: null,
      taken:
        sum.taken && one.taken
          ? {
              ...sum.taken,
              cents: sum.taken.cents + one.taken.cents,
              refundedCents: sum.taken.refundedCents + one.taken.refundedCents,
            }
          : (sum.taken ?? one.taken),
      paidAtSeconds: Math.max(sum.paidAtSeconds ?? 0, one.paidAtSeconds ?? 0) || null,
      disputeStatuses: [...sum.disputeStatuses, ...one.disputeStatuses],
    }),
    first,
  );
}

/**
 * When the money arrived. A delayed charge is made when the customer agrees to it, days before the bank pays; our
 * balance moves when it has. A movement that Stripe has not written yet is one of a charge that was paid at once.
 */
function arrivedAt(charge: Stripe.Charge): number {
  const movement = charge.balance_transaction;
  if (movement !== null && typeof movement === 'object') return movement.created;
  return charge.created;
}

function chargeOf(intent: Stripe.PaymentIntent | null): Stripe.Charge | null {
  const charge = intent?.latest_charge ?? null;
  return charge === null || typeof charge === 'string' ? null : charge;
}

import type Stripe from 'stripe';
import type { TrialPackFacts } from '../../../credit/project.ts';
import type { PaymentFacts } from './payment.ts';

/** `open`: can still be paid. `pending`: completed, and the money is on its way. `failed`: it did not come. */
export type Payment = 'open' | 'pending' | 'done' | 'failed' | 'expired';

export type SessionFacts = {
  session: Stripe.Checkout.Session;
  payment: Payment;
  /** Null when the session sells something else than a trial pack. */
  pack: PackPurchase | null;
};

/** One trial pack out of a purchase, and the money of all of it. */
export type PackPurchase = TrialPackFacts & {
  readonly money: {
    /** What was given back of the whole payment, which can have been for other things as well. */
    readonly refundedCents: number;
    /** What all packs of the purchase cost, and all that was taken. */
    readonly packsCents: number;
    readonly takenCents: number;
    /** What was given back of the same charge for a second subscription, and is in none of these any more. */
    readonly elsewhereCents: number;
  };
};

/** What the lines of a purchase that are the trial pack cost together, taxes and discounts included. */
export type Cost = { units: number; cents: number };

/** Adds a line of so many packs. */
export const plus = (cost: Cost | null, units: number | null, cents: number): Cost => ({
  units: (cost?.units ?? 0) + (units ?? 1),
  cents: (cost?.cents ?? 0) + cents,
});

type Purchase = {
  /** The Checkout session, or where there was none the invoice. */
  boughtIn: string;
  paid: boolean;
  paidAtSeconds: number;
  currency: string;
  cost: Cost;
  payment: PaymentFacts;
};

/**
 * One trial pack out of a purchase. A payment can have been for other things as well, more packs among them: then
 * what was given back counts for those first, in the customer's favour.
 */
export function packPurchase({ boughtIn, cost, payment, ...purchase }: Purchase): PackPurchase {
  const { taken, paymentIntentId, disputeStatuses } = payment;
  const packsCents = Math.min(cost.cents, taken?.cents ?? cost.cents);
  const amountCents = Math.min(Math.ceil(cost.cents / Math.max(1, cost.units)), packsCents);
  const takenCents = taken?.cents ?? 0;
  const refundedCents = taken?.refundedCents ?? 0;
  return {
    sessionId: boughtIn,
    paymentIntentId,
    paid: purchase.paid,
    paidAt: new Date(purchase.paidAtSeconds * 1_000),
    amountCents,
    amountRefundedCents: Math.max(0, refundedCents - Math.max(0, takenCents - amountCents)),
    currency: taken?.currency ?? purchase.currency,
    disputeStatuses,
    money: { refundedCents, packsCents, takenCents, elsewhereCents: 0 },
  };
}

/** The id of something that may or may not have been expanded. */
export function idOf(reference: string | { id: string } | null | undefined): string | null {
  if (reference === null || reference === undefined) return null;
  return typeof reference === 'string' ? reference : reference.id;
}

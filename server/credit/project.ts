import { TRIAL_PACK } from '../../shared/catalog.ts';

/** What Stripe holds about one trial-pack purchase, read afresh; no event's word is taken for any of it. */
export type TrialPackFacts = {
  /** The Checkout session it was bought in, or where there was none the invoice. */
  sessionId: string;
  /** Null where Checkout had nothing to charge. */
  paymentIntentId: string | null;
  /** `payment_status` of the session is not `unpaid`; a completed session can still be unpaid. */
  paid: boolean;
  /** When the money arrived. The 14 days begin here; only the first reading of it counts. */
  paidAt: Date;
  /** What was really charged for the one pack, and what of it was given back. */
  amountCents: number;
  amountRefundedCents: number;
  currency: string;
  /** `status` of each dispute of the charge, in Stripe's words. */
  disputeStatuses: readonly string[];
};

/** What the facts say about a purchase, whatever order they became known in. */
export type TrialPackProjection =
  | { standing: 'unpaid' }
  | { standing: 'paid' | 'disputed'; allowedSeconds: number }
  | { standing: 'refunded' | 'dispute_lost'; allowedSeconds: 0 };

/** Everything the pack grants, in concurrent-seconds. */
export const GRANTED_SECONDS = TRIAL_PACK.amountCents * TRIAL_PACK.secondsPerCent;

/** Judges a purchase by the facts alone: the same facts give the same judgement, always. */
export function projectTrialPack(facts: TrialPackFacts): TrialPackProjection {
  if (!facts.paid) return { standing: 'unpaid' };
  if (isRefundedWhole(facts)) return { standing: 'refunded', allowedSeconds: 0 };
  if (facts.disputeStatuses.includes('lost')) return { standing: 'dispute_lost', allowedSeconds: 0 };
  const disputed = facts.disputeStatuses.some((status) => !SETTLED_DISPUTES.has(status));
  return { standing: disputed ? 'disputed' : 'paid', allowedSeconds: paidForSeconds(facts) };
}

/** A status unknown to us counts as open: credit on hold can be given back, spent credit cannot. */
const SETTLED_DISPUTES: ReadonlySet<string> = new Set(['won', 'warning_closed', 'prevented', 'lost']);

/** Whether nothing of the price is left with us. */
export function isRefundedWhole(facts: TrialPackFacts): boolean {
  return facts.amountRefundedCents > 0 && facts.amountRefundedCents >= facts.amountCents;
}

/** The part of the grant that is still paid for, rounded in the customer's favour. */
function paidForSeconds({ amountCents, amountRefundedCents }: TrialPackFacts): number {
  if (amountRefundedCents === 0) return GRANTED_SECONDS;
  return Math.ceil((GRANTED_SECONDS * (amountCents - amountRefundedCents)) / amountCents);
}

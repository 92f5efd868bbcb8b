import type Stripe from 'stripe';
import type { TrialPackFacts } from '../credit/project.ts';
import type { StripeCalls } from './gateway.ts';

/** `open`: can still be paid. `pending`: completed, and the money is on its way. `failed`: it did not come. */
export type Payment = 'open' | 'pending' | 'done' | 'failed' | 'expired';

export type SessionFacts = {
  session: Stripe.Checkout.Session;
  payment: Payment;
  /** Null when the session sells something else than a trial pack. */
  pack: TrialPackFacts | null;
};

type Reads = Pick<
  StripeCalls,
  'readCheckoutSession' | 'readPaymentIntent' | 'listDisputes' | 'findCheckoutSession'
>;

/** Reads a Checkout session with everything that decides what it is worth; null if Stripe does not know it. */
export async function readSessionFacts(stripe: Reads, sessionId: string): Promise<SessionFacts | null> {
  const session = await stripe.readCheckoutSession(sessionId);
  return session && (await factsOf(stripe, session));
}

/** The same, starting from a payment; null when it was not made in a Checkout session of ours. */
export async function readPaymentFacts(stripe: Reads, paymentIntentId: string): Promise<SessionFacts | null> {
  const session = await stripe.findCheckoutSession(paymentIntentId);
  return session?.metadata?.['driftstack_kind'] === 'trial_pack' ? await factsOf(stripe, session) : null;
}

/** Every trial pack the customer completed Checkout for, known to us or not: an old page can be paid unheard. */
export async function readPackFacts(
  stripe: Reads & Pick<StripeCalls, 'listCompletedSessions'>,
  customer: string,
): Promise<SessionFacts[]> {
  const read: SessionFacts[] = [];
  for (const session of await stripe.listCompletedSessions(customer)) {
    if (session.metadata?.['driftstack_kind'] === 'trial_pack') read.push(await factsOf(stripe, session));
  }
  return read;
}

async function factsOf(stripe: Reads, session: Stripe.Checkout.Session): Promise<SessionFacts> {
  if (session.metadata?.['driftstack_kind'] !== 'trial_pack') {
    return { session, payment: paymentOf(session, null), pack: null };
  }
  const paymentIntentId = idOf(session.payment_intent);
  const intent = paymentIntentId === null ? null : await stripe.readPaymentIntent(paymentIntentId);
  const charge = chargeOf(intent);
  const disputes =
    charge?.disputed && paymentIntentId !== null ? await stripe.listDisputes(paymentIntentId) : [];
  const pack = {
    sessionId: session.id,
    paymentIntentId,
    paid: session.payment_status !== 'unpaid',
    paidAt: new Date(paidAtSeconds(session, charge) * 1_000),
    amountCents: charge?.amount ?? session.amount_total ?? 0,
    amountRefundedCents: charge?.amount_refunded ?? 0,
    currency: session.currency ?? 'usd',
    disputeStatuses: disputes.map(({ status }) => status),
  };
  return { session, payment: paymentOf(session, intent), pack };
}

function paymentOf(session: Stripe.Checkout.Session, intent: Stripe.PaymentIntent | null): Payment {
  if (session.status === 'expired') return 'expired';
  if (session.status !== 'complete') return 'open';
  if (session.payment_status !== 'unpaid') return 'done';
  // A delayed method: the intent falls back to wanting a method, or is cancelled, when the money did not come.
  const failed = intent?.status === 'requires_payment_method' || intent?.status === 'canceled';
  return failed ? 'failed' : 'pending';
}

/**
 * When the money arrived. A delayed charge is made when the customer agrees to it, days before the bank pays; our
 * balance moves when it has. A movement that Stripe has not written yet is one of a charge that was paid at once.
 */
function paidAtSeconds(session: Stripe.Checkout.Session, charge: Stripe.Charge | null): number {
  const movement = charge?.balance_transaction;
  if (movement !== null && typeof movement === 'object') return movement.created;
  return charge?.created ?? session.created;
}

function chargeOf(intent: Stripe.PaymentIntent | null): Stripe.Charge | null {
  const charge = intent?.latest_charge ?? null;
  return charge === null || typeof charge === 'string' ? null : charge;
}

/** The id of something that may or may not have been expanded. */
export function idOf(reference: string | { id: string } | null | undefined): string | null {
  if (reference === null || reference === undefined) return null;
  return typeof reference === 'string' ? reference : reference.id;
}

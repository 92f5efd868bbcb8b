import type Stripe from 'stripe';
import type { EventType } from './events.ts';
import type { StripeCalls } from './gateway.ts';
import type { InvoiceFacts, InvoiceNews } from './invoice.ts';
import { readInvoiceFacts } from './invoice-facts.ts';
import { idOf, readPaymentFacts, readSessionFacts, type SessionFacts } from './purchase.ts';
import { type RenewalFacts, readRenewal } from './renewal.ts';

/** What Stripe holds now about the thing an event named. */
export type Fact =
  /** The subscriptions, which are read every time, say it all. */
  | { kind: 'nothing' }
  | { kind: 'session'; facts: SessionFacts }
  | { kind: 'invoice'; facts: InvoiceFacts }
  | { kind: 'renewal'; facts: RenewalFacts }
  /** `madeAt`: when Stripe told of it, which is three days before the end that it tells of. */
  | { kind: 'trial_ending'; madeAt: Date }
  | { kind: 'alarm'; what: 'refund_failed' | 'invoice_finalization_failed'; facts: SessionFacts | null };

/** `madeAt`: Stripe's own time of the event. What it says belongs to that moment, however late it is heard. */
export type Told = { type: EventType; objectId: string | null; madeAt: Date };

/**
 * Reads from Stripe what an event is about. Its own payload is not looked at. `chosen` is the subscription that the
 * account's row is projected from.
 */
export async function readFact(
  stripe: StripeCalls,
  { type, objectId, madeAt }: Told,
  chosen: Stripe.Subscription | null,
): Promise<Fact> {
  switch (type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded':
    case 'checkout.session.async_payment_failed':
    case 'checkout.session.expired':
      return fromSession(objectId === null ? null : await readSessionFacts(stripe, objectId));
    case 'invoice.paid':
      return await fromInvoice(stripe, objectId, 'paid');
    case 'invoice.payment_failed':
      return await fromInvoice(stripe, objectId, 'payment_failed');
    case 'invoice.payment_action_required':
      return await fromInvoice(stripe, objectId, 'payment_action_required');
    case 'invoice.upcoming': {
      const facts = await readRenewal(stripe, chosen, { about: objectId, madeAt });
      return facts ? { kind: 'renewal', facts } : { kind: 'nothing' };
    }
    case 'customer.subscription.trial_will_end':
      return { kind: 'trial_ending', madeAt };
    case 'charge.refunded':
      return fromSession(await ofPayment(stripe, objectId && (await stripe.readCharge(objectId))));
    case 'charge.dispute.created':
    case 'charge.dispute.closed':
      return fromSession(await ofPayment(stripe, objectId && (await stripe.readDispute(objectId))));
    case 'refund.failed': {
      const facts = await ofPayment(stripe, objectId && (await stripe.readRefund(objectId)));
      return { kind: 'alarm', what: 'refund_failed', facts };
    }
    case 'invoice.finalization_failed':
      return { kind: 'alarm', what: 'invoice_finalization_failed', facts: null };
    case 'customer.subscription.created':
    case 'customer.subscription.updated':
    case 'customer.subscription.deleted':
    case 'customer.subscription.paused':
    case 'subscription_schedule.updated':
    case 'customer.deleted':
      return { kind: 'nothing' };
  }
}

const fromSession = (facts: SessionFacts | null): Fact =>
  facts ? { kind: 'session', facts } : { kind: 'nothing' };

async function fromInvoice(stripe: StripeCalls, id: string | null, news: InvoiceNews): Promise<Fact> {
  const facts = id === null ? null : await readInvoiceFacts(stripe, id, news);
  return facts ? { kind: 'invoice', facts } : { kind: 'nothing' };
}

type Paid = { payment_intent: string | { id: string } | null };

async function ofPayment(stripe: StripeCalls, object: Paid | '' | null): Promise<SessionFacts | null> {
  const paymentIntent = object ? idOf(object.payment_intent) : null;
  return paymentIntent === null ? null : await readPaymentFacts(stripe, paymentIntent);
}

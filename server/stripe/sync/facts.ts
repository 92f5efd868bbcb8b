import type Stripe from 'stripe';
import type { StripeCalls } from '../api/gateway.ts';
import type { EventType } from '../events.ts';
import type { InvoiceFacts, InvoiceNews } from './invoice/invoice.ts';
import { readInvoiceFacts } from './invoice/read-invoice.ts';
import { type RenewalFacts, readRenewal } from './invoice/renewal.ts';
import { type InvoicePurchase, type Known, readInvoicePurchase } from './purchase/by-invoice.ts';
import { readPaymentFacts, readSessionFacts } from './purchase/by-session.ts';
import { idOf, type PackPurchase, type SessionFacts } from './purchase/purchase.ts';
import type { Catalogue } from './purchase/sold.ts';

/** What Stripe holds now about the thing an event named. */
export type Fact =
  /** The subscriptions, which are read every time, say it all. */
  | { kind: 'nothing' }
  | { kind: 'session'; facts: SessionFacts }
  /** A trial pack that was bought by an invoice. */
  | { kind: 'pack'; pack: PackPurchase }
  /** `sold`: what it sold beside subscriptions, once it is paid. */
  | { kind: 'invoice'; facts: InvoiceFacts; sold: InvoicePurchase | null }
  /** A payment without session and without invoice. */
  | { kind: 'bare_charge'; charge: Stripe.Charge }
  | { kind: 'renewal'; facts: RenewalFacts }
  /** `madeAt`: when Stripe told of it, which is three days before the end that it tells of. */
  | { kind: 'trial_ending'; madeAt: Date }
  | { kind: 'alarm'; what: 'refund_failed' | 'invoice_finalization_failed'; about: Fact };

/** `madeAt`: Stripe's own time of the event. What it says belongs to that moment, however late it is heard. */
export type Told = { type: EventType; objectId: string | null; madeAt: Date };

/**
 * Reads from Stripe what an event is about. Its own payload is not looked at. `chosen` is the subscription that the
 * account's row is projected from.
 */
export async function readFact(
  stripe: StripeCalls,
  { type, objectId, madeAt }: Told,
  known: Known & { chosen: Stripe.Subscription | null },
): Promise<Fact> {
  const { catalogue, chosen } = known;
  switch (type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded':
    case 'checkout.session.async_payment_failed':
    case 'checkout.session.expired':
      return fromSession(objectId === null ? null : await readSessionFacts(stripe, catalogue, objectId));
    case 'invoice.paid':
      return await fromInvoice(stripe, known, objectId, 'paid');
    case 'invoice.payment_failed':
      return await fromInvoice(stripe, known, objectId, 'payment_failed');
    case 'invoice.payment_action_required':
      return await fromInvoice(stripe, known, objectId, 'payment_action_required');
    case 'invoice.upcoming': {
      const facts = await readRenewal(stripe, chosen, { about: objectId, madeAt });
      return facts ? { kind: 'renewal', facts } : { kind: 'nothing' };
    }
    case 'customer.subscription.trial_will_end':
      return { kind: 'trial_ending', madeAt };
    case 'charge.refunded':
      return await ofPayment(stripe, catalogue, objectId && (await stripe.readCharge(objectId)));
    case 'charge.dispute.created':
    case 'charge.dispute.closed':
      return await ofPayment(stripe, catalogue, objectId && (await stripe.readDispute(objectId)));
    case 'refund.failed': {
      const about = await ofPayment(stripe, catalogue, objectId && (await stripe.readRefund(objectId)));
      return { kind: 'alarm', what: 'refund_failed', about };
    }
    case 'invoice.finalization_failed':
      return { kind: 'alarm', what: 'invoice_finalization_failed', about: { kind: 'nothing' } };
    case 'customer.subscription.created':
    case 'customer.subscription.updated':
    case 'customer.subscription.deleted':
    case 'customer.subscription.paused':
    case 'customer.subscription.resumed':
    case 'customer.updated':
    case 'subscription_schedule.updated':
    case 'customer.deleted':
      return { kind: 'nothing' };
  }
}

const fromSession = (facts: SessionFacts | null): Fact =>
  facts ? { kind: 'session', facts } : { kind: 'nothing' };

async function fromInvoice(
  stripe: StripeCalls,
  known: Known,
  id: string | null,
  news: InvoiceNews,
): Promise<Fact> {
  const facts = id === null ? null : await readInvoiceFacts(stripe, id, news);
  if (!facts) return { kind: 'nothing' };
  const settles = news === 'paid' && facts.invoice.status === 'paid';
  const sold = settles ? await readInvoicePurchase(stripe, known, facts) : null;
  return { kind: 'invoice', facts, sold };
}

type Paid = { payment_intent: string | { id: string } | null };

async function ofPayment(stripe: StripeCalls, catalogue: Catalogue, object: Paid | '' | null): Promise<Fact> {
  const paymentIntent = object ? idOf(object.payment_intent) : null;
  if (paymentIntent === null) return { kind: 'nothing' };
  return await readPurchaseOf(stripe, catalogue, paymentIntent);
}

/** The trial pack that a payment bought, with its session where it had one; nothing for a payment of anything else. */
export async function readPurchaseOf(
  stripe: StripeCalls,
  catalogue: Catalogue,
  paymentIntent: string,
): Promise<Fact> {
  const { facts, pack } = await readPaymentFacts(stripe, catalogue, paymentIntent);
  return pack ? { kind: 'pack', pack } : fromSession(facts);
}

import type Stripe from 'stripe';
import { parseUuid } from '../../../../shared/ids.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import { type Known, readInvoicePurchase } from './by-invoice.ts';
import { NO_PAYMENT, readPayment } from './payment.ts';
import {
  type Cost,
  idOf,
  type PackPurchase,
  type Payment,
  packPurchase,
  plus,
  type SessionFacts,
} from './purchase.ts';
import type { Catalogue } from './sold.ts';

type Reads = Pick<
  StripeCalls,
  | 'readCheckoutSession'
  | 'readSessionLines'
  | 'readPaymentIntent'
  | 'listDisputes'
  | 'findCheckoutSession'
  | 'findInvoiceOfPayment'
  | 'readInvoice'
  | 'readInvoiceLines'
  | 'listInvoicePayments'
>;

/** Reads a Checkout session with everything that decides what it is worth; null if Stripe does not know it. */
export async function readSessionFacts(
  stripe: Reads,
  catalogue: Catalogue,
  sessionId: string,
): Promise<SessionFacts | null> {
  const session = await stripe.readCheckoutSession(sessionId);
  return session && (await factsOf(stripe, catalogue, session));
}

/** The trial pack that a payment bought, in a session or by an invoice; nulls for a payment of anything else. */
export async function readPaymentFacts(
  stripe: Reads,
  catalogue: Catalogue,
  paymentIntentId: string,
): Promise<{ facts: SessionFacts | null; pack: PackPurchase | null }> {
  const session = await stripe.findCheckoutSession(paymentIntentId);
  if (session) {
    const facts = await factsOf(stripe, catalogue, session);
    return facts.pack ? { facts, pack: null } : { facts: null, pack: null };
  }
  const invoiceId = await stripe.findInvoiceOfPayment(paymentIntentId);
  const invoice = invoiceId === null ? null : await stripe.readInvoice(invoiceId);
  return { facts: null, pack: invoice && (await packOn(stripe, { catalogue, ours: NONE }, invoice)) };
}

/** Every trial pack among completed sessions, known to us or not: an old page can be paid unheard. */
export async function readPackFacts(
  stripe: Reads,
  catalogue: Catalogue,
  sessions: readonly Stripe.Checkout.Session[],
): Promise<SessionFacts[]> {
  const read: SessionFacts[] = [];
  for (const session of sessions) {
    const facts = await factsOf(stripe, catalogue, session);
    if (facts.pack) read.push(facts);
  }
  return read;
}

const NONE: ReadonlySet<string> = new Set();

/** The trial pack that an invoice sold, whatever else it bills. */
export async function packOn(
  stripe: Reads,
  known: Known,
  invoice: Stripe.Invoice,
): Promise<PackPurchase | null> {
  const lines = await stripe.readInvoiceLines(invoice);
  return (await readInvoicePurchase(stripe, known, { invoice, lines })).pack;
}

async function factsOf(
  stripe: Reads,
  catalogue: Catalogue,
  session: Stripe.Checkout.Session,
): Promise<SessionFacts> {
  const cost = await costOfPack(stripe, catalogue, session);
  if (cost === null) return { session, payment: paymentOf(session, null), pack: null };
  const invoiceId = idOf(session.invoice);
  // Beside a subscription it is the first invoice that is paid, and whatever happens to the money names that.
  const invoice =
    session.mode === 'subscription' && invoiceId !== null ? await stripe.readInvoice(invoiceId) : null;
  if (invoice) {
    const pack = await packOn(stripe, { catalogue, ours: NONE }, invoice);
    return { session, payment: paymentOf(session, null), pack };
  }
  const paymentIntentId = idOf(session.payment_intent);
  const payment = paymentIntentId === null ? NO_PAYMENT : await readPayment(stripe, paymentIntentId);
  const pack = packPurchase({
    // Where nothing was charged no payment tells that a session and its invoice are one purchase.
    boughtIn: paymentIntentId === null ? (invoiceId ?? session.id) : session.id,
    // What costs nothing needs no payment while the session is still open.
    paid: session.status === 'complete' && session.payment_status !== 'unpaid',
    paidAtSeconds: payment.paidAtSeconds ?? session.created,
    currency: session.currency ?? 'usd',
    cost,
    payment,
  });
  return { session, payment: paymentOf(session, payment.intent), pack };
}

/** What the lines of a session that are the trial pack cost; null where there are none. */
async function costOfPack(
  stripe: Reads,
  catalogue: Catalogue,
  session: Stripe.Checkout.Session,
): Promise<Cost | null> {
  const attemptId = parseUuid(session.metadata?.['driftstack_attempt_id'] ?? '');
  let cost: Cost | null = null;
  for (const { price, quantity, amount_total: cents } of await stripe.readSessionLines(session)) {
    if (!price) continue;
    const named = { id: price.id, product: idOf(price.product), whole: price };
    if (await catalogue.isPack(named, attemptId)) cost = plus(cost, quantity, cents);
  }
  return cost;
}

function paymentOf(session: Stripe.Checkout.Session, intent: Stripe.PaymentIntent | null): Payment {
  if (session.status === 'expired') return 'expired';
  if (session.status !== 'complete') return 'open';
  if (session.payment_status !== 'unpaid') return 'done';
  // A delayed method: the intent falls back to wanting a method, or is cancelled, when the money did not come.
  const failed = intent?.status === 'requires_payment_method' || intent?.status === 'canceled';
  return failed ? 'failed' : 'pending';
}

import type Stripe from 'stripe';
import type { Tx } from '../../../database/connection.ts';
import { AuditEntry } from '../../../database/entities/journal.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import type { Effect, Source } from '../effects.ts';
import type { Recording } from '../record-fact.ts';
import { idOf } from './purchase.ts';
import { noteUnrecognised } from './unrecognised.ts';

type Explained = {
  readonly sessions: readonly Stripe.Checkout.Session[];
  /** With their payments. */
  readonly invoices: readonly Stripe.Invoice[];
};

/**
 * What a customer paid for without a Checkout session and without an invoice, which no event of ours tells: by a
 * payment made in the Dashboard or by the API. Where session or invoice were read anyway it costs one call; any other
 * charge two more, until it has been written down.
 */
export async function readBareCharges(
  tx: Tx,
  stripe: Pick<StripeCalls, 'listCharges' | 'findInvoiceOfPayment' | 'findCheckoutSession'>,
  { customer, sinceS, explained }: { customer: string; sinceS: number; explained: Explained },
): Promise<Stripe.Charge[]> {
  const known = paymentsOf(explained);
  const kept = (await stripe.listCharges(customer, sinceS)).filter(
    (charge) => isKept(charge) && !known.has(nameOf(charge)),
  );
  if (kept.length === 0) return [];
  const written = await tx.find(
    AuditEntry,
    { dedupeKey: { $in: kept.map(keyOf) } },
    { fields: ['dedupeKey'] },
  );
  const keys = new Set(written.map(({ dedupeKey }) => dedupeKey));
  const bare: Stripe.Charge[] = [];
  for (const charge of kept)
    if (!keys.has(keyOf(charge)) && !(await hasPurchase(stripe, charge))) bare.push(charge);
  return bare;
}

/** Raises the alarm and writes it down, once. */
export async function noteBareCharge(
  context: Pick<Recording, 'tx' | 'alarms'>,
  charge: Stripe.Charge,
  source: Source,
): Promise<Effect[]> {
  const { amount_captured: amountCents, amount_refunded: refundedCents, currency } = charge;
  const paid = {
    target: nameOf(charge),
    amountCents,
    refundedCents,
    currency,
    reason: 'nothing_sold',
  } as const;
  return await noteUnrecognised(context, { ...paid, key: keyOf(charge) }, source);
}

/** Money that came, and of which something is still with us. An authorisation is none before it is captured. */
function isKept({
  status,
  captured,
  amount_captured: taken,
  amount_refunded: refunded,
}: Stripe.Charge): boolean {
  return status === 'succeeded' && captured && taken > refunded;
}

function paymentsOf({ sessions, invoices }: Explained): ReadonlySet<string> {
  const ofInvoices = invoices.flatMap(({ payments }) =>
    (payments?.data ?? []).map(({ payment }) => idOf(payment.payment_intent) ?? idOf(payment.charge)),
  );
  const ofSessions = sessions.map(({ payment_intent }) => idOf(payment_intent));
  return new Set([...ofInvoices, ...ofSessions].filter((id) => id !== null));
}

async function hasPurchase(
  stripe: Pick<StripeCalls, 'findInvoiceOfPayment' | 'findCheckoutSession'>,
  { payment_intent }: Stripe.Charge,
): Promise<boolean> {
  const intent = idOf(payment_intent);
  // Charges of the old API have none, and belong to nothing.
  if (intent === null) return false;
  return (
    (await stripe.findInvoiceOfPayment(intent)) !== null ||
    (await stripe.findCheckoutSession(intent)) !== null
  );
}

/** The payment, by which Stripe's Dashboard shows it. */
const nameOf = ({ id, payment_intent }: Stripe.Charge): string => idOf(payment_intent) ?? id;

const keyOf = (charge: Stripe.Charge): string => `unrecognised:${nameOf(charge)}`;

import type Stripe from 'stripe';
import type { Tx } from '../database/connection.ts';
import { AuditEntry } from '../database/entities/journal.ts';
import type { Effect, Source } from './effects.ts';
import type { StripeCalls } from './gateway.ts';
import { idOf } from './purchase.ts';

/** Written onto what we cancel, so that a crash before our commit leaves a trace to go on from. */
const MARK = 'Cancelled by Driftstack Billing: the account already had a subscription.';

/** Whether we have cancelled this subscription because it was a second one. */
export function isMarked(subscription: Stripe.Subscription): boolean {
  return subscription.cancellation_details?.comment === MARK;
}

/**
 * Gives back what a second live subscription has cost, then ends it at once. First the money and then the end,
 * each under a key of its own: as long as the end is missing the next pass does all of it again, to no effect.
 */
export async function endDuplicate(stripe: StripeCalls, subscription: Stripe.Subscription): Promise<void> {
  for (const paymentIntent of await paymentsOf(stripe, idOf(subscription.latest_invoice))) {
    await stripe.refund(paymentIntent, `safety_refund:${paymentIntent}`);
  }
  await stripe.cancelSubscription(subscription.id, MARK, `safety_cancel:${subscription.id}`);
}

/** What is to be written down about the second subscriptions we ended, as far as it has not been yet. */
export async function effectsOfDuplicates(
  tx: Tx,
  stripe: StripeCalls,
  ended: readonly Stripe.Subscription[],
  source: Source,
): Promise<Effect[]> {
  if (ended.length === 0) return [];
  const keys = ended.map(({ id }) => keyOf(id));
  const written = await tx.find(AuditEntry, { dedupeKey: { $in: keys } }, { fields: ['dedupeKey'] });
  const known = new Set(written.map(({ dedupeKey }) => dedupeKey));
  const effects: Effect[] = [];
  for (const { id, latest_invoice, currency } of ended) {
    const key = keyOf(id);
    if (known.has(key)) continue;
    const refundedCents = await refundedCentsOf(stripe, idOf(latest_invoice));
    effects.push(
      {
        kind: 'audit',
        key,
        action: 'subscription.duplicate_canceled',
        target: id,
        payload: { refunded_cents: refundedCents, currency, ...source },
      },
      {
        kind: 'mail',
        key,
        template: 'duplicate_purchase_refunded',
        data: { purchase: 'subscription', amountCents: refundedCents || null, currency },
      },
    );
  }
  return effects;
}

/**
 * Gives back what was paid for a second subscription after we had ended it: a bank that takes days to settle
 * does not stop for that. Nothing where the money had been given back with the end.
 */
export async function returnLatePayment(
  tx: Tx,
  stripe: StripeCalls,
  invoice: Stripe.Invoice,
  source: Source,
): Promise<Effect[]> {
  const subscription = idOf(invoice.parent?.subscription_details?.subscription);
  if (subscription === null || invoice.status !== 'paid' || invoice.amount_paid === 0) return [];
  const ended = await tx.findOne(AuditEntry, { dedupeKey: keyOf(subscription) });
  if (ended?.payload['refunded_cents'] !== 0) return [];
  for (const paymentIntent of await paymentsOf(stripe, invoice.id ?? null)) {
    await stripe.refund(paymentIntent, `safety_refund:${paymentIntent}`);
  }
  const { currency } = invoice;
  const refundedCents = await refundedCentsOf(stripe, invoice.id ?? null);
  // The bank has taken it back itself, which is no news of ours.
  if (refundedCents === 0) return [];
  const key = `duplicate_late:${invoice.id}`;
  return [
    {
      kind: 'audit',
      key,
      action: 'subscription.duplicate_refunded',
      target: subscription,
      payload: { refunded_cents: refundedCents, currency, invoice: invoice.id, ...source },
    },
    {
      kind: 'mail',
      key,
      template: 'duplicate_purchase_refunded',
      data: { purchase: 'subscription', amountCents: refundedCents || null, currency },
    },
  ];
}

/** Read from the payments themselves: the bank may have been quicker than our refund. */
async function refundedCentsOf(stripe: StripeCalls, invoice: string | null): Promise<number> {
  let cents = 0;
  for (const paymentIntent of await paymentsOf(stripe, invoice)) {
    const charge = (await stripe.readPaymentIntent(paymentIntent))?.latest_charge;
    cents += typeof charge === 'object' ? (charge?.amount_refunded ?? 0) : 0;
  }
  return cents;
}

async function paymentsOf(stripe: StripeCalls, invoice: string | null): Promise<string[]> {
  const payments = invoice === null ? [] : await stripe.listInvoicePayments(invoice);
  return payments.flatMap(({ payment }) => idOf(payment.payment_intent) ?? []);
}

const keyOf = (subscriptionId: string) => `duplicate:${subscriptionId}`;

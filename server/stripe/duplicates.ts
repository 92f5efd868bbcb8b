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
  const invoice = idOf(subscription.latest_invoice);
  for (const payment of invoice === null ? [] : await stripe.listInvoicePayments(invoice)) {
    const paymentIntent = idOf(payment.payment.payment_intent);
    if (paymentIntent !== null) await stripe.refund(paymentIntent, `safety_refund:${paymentIntent}`);
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
    const invoiceId = idOf(latest_invoice);
    const paidCents = (invoiceId === null ? null : await stripe.readInvoice(invoiceId))?.amount_paid ?? 0;
    const amountCents = paidCents === 0 ? null : paidCents;
    effects.push(
      {
        kind: 'audit',
        key,
        action: 'subscription.duplicate_canceled',
        target: id,
        payload: { refunded_cents: paidCents, currency, ...source },
      },
      {
        kind: 'mail',
        key,
        template: 'duplicate_purchase_refunded',
        data: { purchase: 'subscription', amountCents, currency },
      },
    );
  }
  return effects;
}

const keyOf = (subscriptionId: string) => `duplicate:${subscriptionId}`;

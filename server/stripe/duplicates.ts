import type Stripe from 'stripe';
import { z } from 'zod';
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
 * Ends a second live subscription at once, for good: a marked one counts for nothing any more. False when somebody
 * else has ended it meanwhile: then it is not marked, and its money is for them to give back.
 */
export async function endDuplicate(stripe: StripeCalls, { id }: Stripe.Subscription): Promise<boolean> {
  return (await stripe.cancelSubscription(id, MARK, `safety_cancel:${id}`)) !== null;
}

/**
 * Gives back everything that the second subscriptions we ended have cost since they began, and returns what is
 * to be written down about it, as far as that has not been yet. Until it is written, each pass does it again, to
 * no further effect. With `anew` it looks as well for what a bank paid since without our hearing of it.
 */
export async function effectsOfDuplicates(
  tx: Tx,
  stripe: StripeCalls,
  ended: readonly Stripe.Subscription[],
  { source, anew }: { source: Source; anew: boolean },
): Promise<Effect[]> {
  if (ended.length === 0) return [];
  const keys = ended.map(({ id }) => keyOf(id));
  const written = await tx.find(AuditEntry, { dedupeKey: { $in: keys } }, { fields: ['dedupeKey'] });
  const known = new Set(written.map(({ dedupeKey }) => dedupeKey));
  const effects: Effect[] = [];
  for (const { id, currency } of ended) {
    const key = keyOf(id);
    if (known.has(key) && !anew) continue;
    const invoices = await stripe.listPaidInvoices(id);
    if (known.has(key)) {
      for (const invoice of invoices) effects.push(...(await returnLatePayment(tx, stripe, invoice, source)));
      continue;
    }
    let refundedCents = 0;
    for (const invoice of invoices) refundedCents += await giveBack(stripe, invoice);
    effects.push(
      {
        kind: 'audit',
        key,
        action: 'subscription.duplicate_canceled',
        target: id,
        payload: {
          refunded_cents: refundedCents,
          currency,
          invoices: invoices.map((invoice) => invoice.id),
          ...source,
        },
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
 * does not stop for that. Nothing where the money had been given back, with the end or by an earlier call.
 */
export async function returnLatePayment(
  tx: Tx,
  stripe: StripeCalls,
  invoice: Stripe.Invoice,
  source: Source,
): Promise<Effect[]> {
  const subscription = idOf(invoice.parent?.subscription_details?.subscription);
  if (subscription === null || invoice.status !== 'paid' || invoice.amount_paid === 0) return [];
  const key = `duplicate_late:${invoice.id}`;
  const entries = await tx.find(AuditEntry, { dedupeKey: { $in: [keyOf(subscription), key] } });
  const written = new Map(entries.map((entry) => [entry.dedupeKey, entry]));
  const ended = written.get(keyOf(subscription));
  if (!ended || written.has(key)) return [];
  if (withTheEnd.parse(ended.payload).invoices.includes(invoice.id ?? '')) return [];
  const refundedCents = await giveBack(stripe, invoice);
  // The bank has taken it back itself, which is no news of ours.
  if (refundedCents === 0) return [];
  const { currency } = invoice;
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

const withTheEnd = z.object({ invoices: z.array(z.string()) });

/**
 * Refunds every payment of an invoice, once, and returns what has been given back of it in cents: read from the
 * payments themselves, because the bank may have been quicker than our refund.
 */
async function giveBack(stripe: StripeCalls, { id }: Stripe.Invoice): Promise<number> {
  let cents = 0;
  for (const { payment } of id === undefined ? [] : await stripe.listInvoicePayments(id)) {
    const paymentIntent = idOf(payment.payment_intent);
    if (paymentIntent === null) continue;
    await stripe.refund(paymentIntent, `safety_refund:${paymentIntent}`);
    const charge = (await stripe.readPaymentIntent(paymentIntent))?.latest_charge;
    cents += typeof charge === 'object' ? (charge?.amount_refunded ?? 0) : 0;
  }
  return cents;
}

const keyOf = (subscriptionId: string) => `duplicate:${subscriptionId}`;

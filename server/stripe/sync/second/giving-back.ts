import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import { idOf } from '../purchase/purchase.ts';
import type { Doubt } from './cost.ts';

export type GivenBack = {
  /** How much of the part has been given back by now, by whomever. */
  readonly cents: number;
  /** Set where something of it has not been. */
  readonly doubt: Doubt | null;
};

type Calls = Pick<StripeCalls, 'listInvoicePayments' | 'readPaymentIntent' | 'refund'>;

/**
 * Sees to it that so many cents of an invoice have been given back, and says how many have been: what was given
 * back before, by staff or by a call of ours that died, counts towards it, but for what has been counted for other
 * things that the invoice sold. So it may be called again at any time.
 */
export async function giveBack(
  stripe: Calls,
  { id }: Stripe.Invoice,
  { cents, elsewhere }: { cents: number; elsewhere: number },
): Promise<GivenBack> {
  const payments = id === undefined ? [] : await stripe.listInvoicePayments(id);
  const intents = payments.flatMap(({ payment, amount_paid }) => {
    const intent = idOf(payment.payment_intent);
    return intent === null ? [] : [{ intent, paid: amount_paid }];
  });
  const before = await chargesOf(stripe, intents);
  let left = cents - countsOf(before, elsewhere);
  let isDisputed = false;
  for (const { intent, paid, charge } of before) {
    const open = Math.min(paid ?? charge.amount, charge.amount - charge.amount_refunded);
    const amount = Math.min(left, open);
    if (amount <= 0) continue;
    // Whoever comes this way again in the same state sends the same; in another state it is another refund.
    const key = `safety_refund:${intent}:${charge.amount_refunded}:${amount}`;
    const refunded = await stripe.refund(intent, key, amount);
    isDisputed ||= refunded === 'charged_back';
    if (refunded === 'refunded') left -= amount;
  }
  // Read again, because the bank may have been quicker than our refund.
  const given = Math.min(cents, countsOf(await chargesOf(stripe, intents), elsewhere));
  if (given === cents) return { cents, doubt: null };
  return { cents: given, doubt: isDisputed ? 'disputed' : 'not_refundable' };
}

type Paid = { readonly intent: string; readonly paid: number | null };

async function chargesOf(stripe: Calls, intents: readonly Paid[]) {
  const read: (Paid & { charge: Stripe.Charge })[] = [];
  for (const { intent, paid } of intents) {
    const charge = (await stripe.readPaymentIntent(intent))?.latest_charge;
    if (typeof charge === 'object' && charge !== null) read.push({ intent, paid, charge });
  }
  return read;
}

const countsOf = (charges: readonly { charge: Stripe.Charge }[], elsewhere: number): number =>
  Math.max(0, charges.reduce((sum, { charge }) => sum + charge.amount_refunded, 0) - elsewhere);

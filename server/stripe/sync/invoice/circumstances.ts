import type Stripe from 'stripe';
import { parseUuid } from '../../../../shared/ids.ts';
import type { Tx } from '../../../database/connection.ts';
import { CheckoutAttempt } from '../../../database/entities/billing.ts';
import type { Source } from '../effects.ts';
import { idOf } from '../purchase/purchase.ts';
import type { Surplus } from '../second/surplus.ts';
import { billedPlan } from '../subscription/billed-plan.ts';
import type { PriceMap } from '../subscription/schedule.ts';
import type { Circumstances, InvoiceFacts } from './invoice.ts';

type Known = {
  tx: Tx;
  subscriptions: readonly Stripe.Subscription[];
  /** Those of them that we ended because they were second ones. */
  surplus: readonly Surplus[];
  prices: PriceMap;
};

/**
 * What the invoice's own subscription says about it, whatever the account's row says: an invoice by hand has none,
 * and that of another subscription is not one of the plan that the account is on.
 */
export async function circumstancesOf(
  { tx, subscriptions, surplus, prices }: Known,
  { invoice, lines }: InvoiceFacts,
  source: Source,
): Promise<Circumstances> {
  const id = idOf(invoice.parent?.subscription_details?.subscription);
  const subscription = subscriptions.find((one) => one.id === id);
  if (!subscription) return { plan: null, begins: false, over: false, unasked: null, source };
  const begins = subscription.status === 'incomplete';
  const isSurplus = surplus.some(({ subscription }) => subscription.id === id);
  const inCheckout = begins && (await isInCheckout(tx, subscription));
  return {
    plan: lines && billedPlan(lines, subscription.id, prices),
    begins,
    over: ENDED.includes(subscription.status),
    unasked: isSurplus ? 'surplus' : inCheckout ? 'in_checkout' : null,
    source,
  };
}

const ENDED: readonly string[] = ['canceled', 'incomplete_expired'];

/** Whether the customer still has our Checkout page before them, which tells them itself what to do. */
async function isInCheckout(tx: Tx, { metadata }: Stripe.Subscription): Promise<boolean> {
  const id = parseUuid(metadata['driftstack_attempt_id'] ?? '');
  if (id === null) return false;
  const state = { $in: ['creating', 'open', 'closing'] as const };
  return (await tx.findOne(CheckoutAttempt, { id, state })) !== null;
}

import type Stripe from 'stripe';

/** Why nobody's subscription may be ended by us where several live. */
export type Restraint = 'ends_by_itself' | 'paused' | 'unknown_price' | 'unknown_status';

/** One of several live subscriptions, as far as it decides about ending one. */
export type Rival = {
  readonly subscription: Stripe.Subscription;
  /** Its price is one of our catalogue's. */
  readonly inCatalogue: boolean;
  /** Its status is one that we know. */
  readonly isUnderstood: boolean;
};

/**
 * What keeps us from ending any of these, best first; null where each but the first is one too many. Somebody has
 * decided about what ends by itself or is paused, and what we do not understand we do not weigh against others.
 */
export function restraintOf(
  rivals: readonly Rival[],
): { because: Restraint; stripeSubscriptionId: string } | null {
  for (const { subscription, inCatalogue, isUnderstood } of rivals) {
    const because = !inCatalogue
      ? 'unknown_price'
      : isUnderstood
        ? standingAside(subscription)
        : 'unknown_status';
    if (because !== null) return { because, stripeSubscriptionId: subscription.id };
  }
  return null;
}

/** All of a subscription that decides about ending it or one beside it: equal as long as nobody has changed that. */
export function standingOf(subscription: Stripe.Subscription): unknown[] {
  const { status, items, cancel_at, cancel_at_period_end } = subscription;
  const prices = items.data.map(({ price }) => price.id);
  return [status, cancel_at, cancel_at_period_end, standingAside(subscription), prices.sort()];
}

function standingAside(subscription: Stripe.Subscription): 'ends_by_itself' | 'paused' | null {
  const { status, cancel_at, cancel_at_period_end, pause_collection, schedule } = subscription;
  if (status === 'paused' || pause_collection) return 'paused';
  if (cancel_at_period_end || cancel_at !== null || mayEndWithTrial(subscription)) return 'ends_by_itself';
  const isBooked = typeof schedule === 'object' && schedule?.end_behavior === 'cancel';
  return isBooked ? 'ends_by_itself' : null;
}

/** A trial without a card that Stripe ends or pauses when it is over: the customer may have another card on file. */
function mayEndWithTrial({
  status,
  trial_settings: settings,
  default_payment_method,
}: Stripe.Subscription): boolean {
  const then = settings?.end_behavior.missing_payment_method ?? 'create_invoice';
  return status === 'trialing' && then !== 'create_invoice' && default_payment_method === null;
}

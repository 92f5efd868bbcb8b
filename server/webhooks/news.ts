import type { BillingState } from '../../shared/billing.ts';
import { TRIAL_PACK } from '../../shared/catalog.ts';
import type { EventNews } from '../../shared/events.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { Subscription, TrialPack } from '../database/entities/billing.ts';

type SubscriptionState = NonNullable<BillingState['subscription']>;
type SubscriptionFacts = Pick<
  Subscription,
  'tier' | 'status' | 'billingPeriod' | 'currentPeriodStart' | 'currentPeriodEnd'
> & { readonly endsAt: Date | null };

/** What a change of the subscription row is for customers: nothing where none of the fields they see differs. */
export function subscriptionNews(
  subscriptionId: string,
  before: SubscriptionFacts | null,
  after: SubscriptionFacts,
  { ended }: { ended: boolean },
): EventNews[] {
  const subscription = subscriptionState(subscriptionId, after);
  const previous = before && changedFields(subscriptionState(subscriptionId, before), subscription);
  if (previous !== null && Object.keys(previous).length === 0) return [];
  const data = { subscription, previous };
  return [
    { type: 'subscription.changed', data },
    ...(ended ? [{ type: 'subscription.cancelled', data } as const] : []),
  ];
}

/** The purchase of a pack that nothing was spent of yet. */
export function purchaseNews(pack: PackFacts, now: Date): EventNews {
  return { type: 'trial_pack.purchased', data: { trial_pack: packState(pack, now), previous: null } };
}

/** The end of a pack by time; `before` is how it stood until then. */
export function expiryNews(before: PackFacts, after: PackFacts, now: Date): EventNews {
  const state = packState(after, now);
  // How it stood: the clock has passed its end already, and would answer that nothing can be spent.
  const previous = changedFields(packState(before, new Date(before.expiresAt.getTime() - 1)), state);
  return { type: 'trial_pack.expired', data: { trial_pack: state, previous } };
}

function subscriptionState(id: string, row: SubscriptionFacts): SubscriptionState {
  return {
    id: formatId('sub', id),
    tier: row.tier,
    status: row.status,
    billing_period: row.billingPeriod,
    current_period_start: toWireTime(row.currentPeriodStart),
    current_period_end: toWireTime(row.currentPeriodEnd),
    cancel_at_period_end: row.endsAt !== null,
  };
}

type PackFacts = Pick<TrialPack, 'state' | 'remainingSeconds' | 'expiresAt'>;

function packState(pack: PackFacts, now: Date): BillingState['trial_pack'] {
  const over = pack.state === 'revoked' || pack.state === 'expired' || now >= pack.expiresAt;
  const seconds = over ? 0 : pack.remainingSeconds;
  return {
    active: pack.state === 'active' && seconds > 0,
    credit_cents_remaining: Math.ceil(seconds / TRIAL_PACK.secondsPerCent),
    expires_at: toWireTime(pack.expiresAt),
    redeemed: true,
  };
}

/** The fields of `before` that are others in `after`. */
function changedFields<T extends object>(before: T, after: T): Partial<T> {
  const entries = Object.entries(before).filter(([name, value]) => Reflect.get(after, name) !== value);
  // Entries of a T that were left out or kept as they are.
  return Object.fromEntries(entries) as Partial<T>;
}

import type Stripe from 'stripe';
import type { World } from '../../server/sandbox/world.ts';

/**
 * What our row has to say about a customer, worked out from Stripe's own objects by other means than the
 * product's: the standard it is held to.
 */
export type Expected = {
  stripeSubscriptionId: string;
  tier: string;
  pendingTier: string | null;
  status: string;
  billingPeriod: string;
  currentPeriodStart: string;
  currentPeriodEnd: string;
  cancelAtPeriodEnd: boolean;
  entitled: boolean;
};

const LIVE: readonly string[] = ['active', 'trialing', 'past_due', 'unpaid', 'paused'];
const ENTITLED: readonly string[] = ['active', 'trialing', 'past_due'];
/**
 * From the best to the worst. Those of one group are told apart by tier while they live, then by age: of the living
 * the one that was there first, of the ended the one that came last.
 */
const GROUPS = [
  ['active', 'trialing'],
  ['past_due'],
  ['unpaid', 'paused'],
  ['incomplete'],
  ['canceled'],
  ['incomplete_expired'],
];
const DEAREST_LAST = [
  'api_starter',
  'solo_manual',
  'api_builder',
  'team_manual',
  'api_scale',
  'agency_manual',
];

export const isLive = (status: string): boolean => LIVE.includes(status);

/** Whether we ended it ourselves because it was a second one: such a one counts for nothing any more. */
export const endedByUs = ({ cancellation_details: details }: Stripe.Subscription): boolean =>
  details?.comment?.startsWith('Cancelled by Driftstack Billing') ?? false;

export function expectedRow(world: World, customer: string): Expected | null {
  const counted = world.ofCustomer('subscription', customer).filter((one) => !endedByUs(one));
  let best: Stripe.Subscription | null = null;
  for (const one of counted) if (best === null || beats(world, one, best)) best = one;
  return best && rowOf(world, best);
}

function beats(world: World, one: Stripe.Subscription, other: Stripe.Subscription): boolean {
  const [a, b] = [groupOf(one), groupOf(other)];
  if (a !== b) return a < b;
  const [tierOne, tierOther] = [planOf(world, one).tier, planOf(world, other).tier];
  if (isLive(one.status) && tierOne !== tierOther)
    return DEAREST_LAST.indexOf(tierOne) > DEAREST_LAST.indexOf(tierOther);
  if (one.created === other.created) return one.id < other.id;
  return isLive(one.status) ? one.created < other.created : one.created > other.created;
}

const groupOf = ({ status }: Stripe.Subscription): number =>
  GROUPS.findIndex((group) => group.includes(status));

function rowOf(world: World, subscription: Stripe.Subscription): Expected {
  const { status, cancel_at, cancel_at_period_end } = subscription;
  const plan = planOf(world, subscription);
  const [item] = subscription.items.data;
  if (!item) throw new Error(`${subscription.id} has no item`);
  return {
    stripeSubscriptionId: subscription.id,
    tier: plan.tier,
    pendingTier: isLive(status) ? bookedTier(world, subscription, plan.tier) : null,
    status,
    billingPeriod: plan.period,
    currentPeriodStart: new Date(item.current_period_start * 1000).toISOString(),
    currentPeriodEnd: new Date(item.current_period_end * 1000).toISOString(),
    cancelAtPeriodEnd: isLive(status) && (cancel_at !== null || cancel_at_period_end),
    entitled: ENTITLED.includes(status),
  };
}

function planOf(world: World, { items }: Stripe.Subscription) {
  return planOfPrice(world, items.data[0]?.price.id ?? '');
}

function planOfPrice(world: World, price: string): { tier: string; period: string } {
  const key = world.get('price', price).lookup_key ?? '';
  const [, tier = '', period = ''] = /^driftstack_(.+)_(monthly|annual)$/.exec(key) ?? [];
  return { tier, period };
}

function bookedTier(world: World, { schedule: id }: Stripe.Subscription, tier: string): string | null {
  const schedule = typeof id === 'string' ? world.get('subscription_schedule', id) : null;
  const current = schedule?.current_phase;
  if (!schedule || !current) return null;
  const [next] = schedule.phases.filter(({ start_date }) => start_date >= current.end_date);
  const price = next?.items[0]?.price;
  const booked = typeof price === 'string' ? planOfPrice(world, price).tier : tier;
  return booked === tier ? null : booked;
}

/** What a purchase of the trial pack is worth, if it is the account's first. */
export function expectedPack(world: World, session: Stripe.Checkout.Session, nowMs: number) {
  const intent = world.get('payment_intent', String(session.payment_intent));
  const charge = world.get('charge', String(intent.latest_charge));
  const disputes = [...world.newestFirst('dispute')].filter((one) => one.charge === charge.id);
  const paidCents = charge.amount - charge.amount_refunded;
  const over = nowMs >= charge.created * 1000 + 14 * 86_400_000;
  if (paidCents === 0 || disputes.some(({ status }) => status === 'lost'))
    return { state: 'revoked', remainingSeconds: 0 };
  if (over) return { state: 'expired', remainingSeconds: 0 };
  // 18 cents an hour: 299 cents last for 59,800 seconds.
  const remainingSeconds = Math.ceil((paidCents / charge.amount) * 59_800 - 1e-9);
  const held = disputes.some(({ status }) => status === 'needs_response');
  return { state: held ? 'suspended' : 'active', remainingSeconds };
}

/** The sessions that sold a trial pack and were paid for. */
export function packsPaid(world: World, customer: string): readonly Stripe.Checkout.Session[] {
  return world
    .ofCustomer('checkout.session', customer)
    .filter((session) => session.metadata?.['driftstack_kind'] === 'trial_pack')
    .filter(({ status, payment_status }) => status === 'complete' && payment_status === 'paid');
}

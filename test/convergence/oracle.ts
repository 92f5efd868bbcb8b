import type Stripe from 'stripe';
import { checkoutDetails } from '../../server/local-stripe/checkout/details.ts';
import type { World } from '../../server/local-stripe/world.ts';

/**
 * What our row has to say about a customer, worked out from Stripe's own objects by other means than the
 * product's: the standard it is held to.
 */
export type Expected = {
  stripeSubscriptionId: string;
  tier: string;
  /** Tier, period and moment of a change that is booked. */
  pending: { tier: string; period: string; at: string } | null;
  status: string;
  billingPeriod: string;
  currentPeriodStart: string;
  currentPeriodEnd: string;
  cancelAtPeriodEnd: boolean;
  endsAt: string | null;
  endedAt: string | null;
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

/** The dearer the higher. */
export const rankOf = (tier: string): number => DEAREST_LAST.indexOf(tier);

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
  if (isLive(one.status) && tierOne !== tierOther) return rankOf(tierOne) > rankOf(tierOther);
  if (one.created === other.created) return one.id < other.id;
  return isLive(one.status) ? one.created < other.created : one.created > other.created;
}

/**
 * Whether two that have ended were made in one second, for other periods: nobody can say which of them came last, so
 * the row goes by their ids, and may have moved from one to the other without anything that is to be told.
 */
export function endedInOneSecond(world: World, customer: string): boolean {
  const ended = world
    .ofCustomer('subscription', customer)
    .filter((one) => !endedByUs(one) && !isLive(one.status));
  return ended.some((one) =>
    ended.some(
      (other) => one.created === other.created && planOf(world, one).period !== planOf(world, other).period,
    ),
  );
}

const groupOf = ({ status }: Stripe.Subscription): number =>
  GROUPS.findIndex((group) => group.includes(status));

function rowOf(world: World, subscription: Stripe.Subscription): Expected {
  const { status, ended_at } = subscription;
  const plan = planOf(world, subscription);
  const [item] = subscription.items.data;
  if (!item) throw new Error(`${subscription.id} has no item`);
  return {
    stripeSubscriptionId: subscription.id,
    tier: plan.tier,
    pending: isLive(status) ? booked(world, subscription, plan) : null,
    status,
    billingPeriod: plan.period,
    currentPeriodStart: new Date(item.current_period_start * 1000).toISOString(),
    currentPeriodEnd: new Date(item.current_period_end * 1000).toISOString(),
    cancelAtPeriodEnd: isLive(status) && plannedEnd(world, subscription) !== null,
    endsAt: isLive(status) ? plannedEnd(world, subscription) : null,
    endedAt: isLive(status) || ended_at === null ? null : new Date(ended_at * 1000).toISOString(),
    entitled: ENTITLED.includes(status),
  };
}

export function planOf(world: World, { items }: Stripe.Subscription) {
  return planOfPrice(world, items.data[0]?.price.id ?? '');
}

function planOfPrice(world: World, price: string): { tier: string; period: string } {
  const key = world.get('price', price).lookup_key ?? '';
  const [, tier = '', period = ''] = /^driftstack_(.+)_(monthly|annual)$/.exec(key) ?? [];
  return { tier, period };
}

/** Walks through what is to come, phase by phase, until one of them is another plan. */
function booked(world: World, subscription: Stripe.Subscription, plan: { tier: string; period: string }) {
  const schedule = scheduleOf(world, subscription);
  const end = plannedEnd(world, subscription);
  let moment = schedule?.current_phase?.end_date;
  while (moment !== undefined) {
    const phase = schedule?.phases.find(({ start_date }) => start_date === moment);
    const price = phase?.items[0]?.price;
    if (!phase || typeof price !== 'string') return null;
    const at = new Date(phase.start_date * 1000).toISOString();
    const { tier, period } = planOfPrice(world, price);
    if (tier !== plan.tier || period !== plan.period)
      return end === null || at < end ? { tier, period, at } : null;
    moment = phase.end_date;
  }
  return null;
}

/** Whichever comes first of the three ways in which Stripe is told to end it. */
function plannedEnd(world: World, subscription: Stripe.Subscription): string | null {
  const { cancel_at, cancel_at_period_end, items } = subscription;
  const schedule = scheduleOf(world, subscription);
  const moments: number[] = [];
  if (cancel_at !== null) moments.push(cancel_at);
  else if (cancel_at_period_end) moments.push(items.data[0]?.current_period_end ?? Number.NaN);
  if (schedule?.end_behavior === 'cancel')
    moments.push(Math.max(...schedule.phases.map(({ end_date }) => end_date)));
  return moments.length === 0 ? null : new Date(Math.min(...moments) * 1000).toISOString();
}

function scheduleOf(world: World, { schedule: id }: Stripe.Subscription) {
  const schedule = typeof id === 'string' ? world.get('subscription_schedule', id) : null;
  return schedule?.status === 'active' ? schedule : null;
}

/** A paid purchase of the trial pack, alone or beside a subscription. */
export type PackSale = {
  /** The Checkout session or the invoice; beside a subscription always the invoice. */
  readonly id: string;
  readonly charge: Stripe.Charge;
  /** What was paid for the pack: of its charge a part, or all of it. */
  readonly cents: number;
};

/** What a purchase of the trial pack is worth, if it is the account's first. */
export function expectedPack(world: World, { charge, cents }: PackSale, nowMs: number) {
  const disputes = [...world.newestFirst('dispute')].filter((one) => one.charge === charge.id);
  // What was given back was for the pack only where nothing else is left that it can have been for.
  const paidCents = Math.min(cents, charge.amount - charge.amount_refunded);
  const over = nowMs >= charge.created * 1000 + 14 * 86_400_000;
  if (paidCents === 0 || disputes.some(({ status }) => status === 'lost'))
    return { state: 'revoked', remainingSeconds: 0 };
  if (over) return { state: 'expired', remainingSeconds: 0 };
  // 18 cents an hour: 299 cents last for 59,800 seconds.
  const remainingSeconds = Math.ceil((paidCents / cents) * 59_800 - 1e-9);
  const held = disputes.some(({ status }) => status === 'needs_response');
  return { state: held ? 'suspended' : 'active', remainingSeconds };
}

/** Every sale of the pack's price, by whomever, in a session or by an invoice: by what was sold, whatever is written on it. */
export function packsPaid(world: World, customer: string): readonly PackSale[] {
  const price = [...world.newestFirst('price')].find(
    ({ lookup_key: key }) => key === 'driftstack_trial_pack',
  );
  if (!price) throw new Error('the catalogue has a trial pack');
  const sessions = world
    .ofCustomer('checkout.session', customer)
    .filter(({ status, payment_status }) => status === 'complete' && payment_status === 'paid')
    .filter(({ mode, id }) => mode === 'payment' && linesOf(world, id).some((one) => one === price.id))
    .map(({ id, payment_intent: intent }) => {
      const charge = chargeOf(world, String(intent));
      return { id, charge, cents: charge.amount };
    });
  const invoices = world
    .ofCustomer('invoice', customer)
    .filter(({ status, lines }) => status === 'paid' && lines.data.some(isFor(price.id)))
    .flatMap(({ id, lines }) =>
      intentsOf(world, ({ invoice, status }) => invoice === id && status === 'paid').map((intent) => ({
        id,
        charge: chargeOf(world, intent),
        cents: lines.data.filter(isFor(price.id)).reduce((sum, { amount }) => sum + amount, 0),
      })),
    );
  return [...sessions, ...invoices];
}

/** The charges that succeeded and belong to no session and no invoice. */
export function barePayments(world: World, customer: string): readonly Stripe.Charge[] {
  const sessions = world.ofCustomer('checkout.session', customer);
  const sold = new Set<unknown>([
    ...sessions.map(({ payment_intent: intent }) => intent),
    ...intentsOf(world, () => true),
  ]);
  return world
    .ofCustomer('charge', customer)
    .filter(({ status, payment_intent: intent }) => status === 'succeeded' && !sold.has(intent));
}

const linesOf = (world: World, session: string): (string | undefined)[] =>
  checkoutDetails(world, session).lineItems.map(({ price }) => price?.id);

const isFor =
  (price: string) =>
  ({ pricing }: Stripe.InvoiceLineItem): boolean =>
    pricing?.price_details?.price === price;

const intentsOf = (world: World, wanted: (payment: Stripe.InvoicePayment) => boolean): string[] =>
  [...world.newestFirst('invoice_payment')]
    .filter(wanted)
    .flatMap(({ payment: { payment_intent: intent } }) => (typeof intent === 'string' ? intent : []));

const chargeOf = (world: World, intent: string): Stripe.Charge =>
  world.get('charge', String(world.get('payment_intent', intent).latest_charge));

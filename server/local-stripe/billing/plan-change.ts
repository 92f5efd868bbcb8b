import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { debitsOf } from './debits.ts';
import { changedItems, type ItemChange } from './item-changes.ts';
import { type DraftLine, day, periodLine } from './lines.ts';
import { boundary, type Period, periodAt } from './periods.ts';
import { priceAmount, productName, recurrenceOf } from './prices.ts';
import { type Credit, creditsAt, prorate } from './proration.ts';
import { periodEnd, periodStart } from './subscription-object.ts';

export interface WantedChange {
  readonly items: readonly ItemChange[];
  readonly prorationBehavior: 'create_prorations' | 'none' | 'always_invoice';
  readonly prorationDate: number | null;
  /** Starts a new period now, whatever changes. */
  readonly anchorNow: boolean;
  /** Undefined leaves the trial as it is. */
  readonly trialEnd: number | 'now' | undefined;
}

/** What a change would do. Nothing has been stored; new items have their ids already. */
export interface ChangePlan {
  readonly items: Stripe.SubscriptionItem[];
  readonly anchor: number;
  readonly credited: readonly Credit[];
  /** Credits and charges for the rest of the period, credits first. */
  readonly prorations: readonly DraftLine[];
  /** Lines of a new period that begins at once; empty where the period goes on. */
  readonly newPeriod: readonly DraftLine[];
  readonly trial: 'unchanged' | 'ended' | { readonly end: number };
}

/** Works out what a change of items, trial or anchor would bill, to the cent. */
export function planChange(
  world: World,
  subscription: Stripe.Subscription,
  wanted: WantedChange,
  now: number,
): ChangePlan {
  const at = prorationDate(subscription, wanted, now);
  const before = subscription.items.data;
  const after = changedItems(world, subscription, wanted.items, now);
  const trial = trialAfter(subscription, wanted, now);
  const stillTrialing =
    typeof trial === 'object' || (trial === 'unchanged' && subscription.status === 'trialing');
  const starts =
    wanted.anchorNow || trial !== 'unchanged' || (!stillTrialing && intervalChanges(before, after));
  const prorates = wanted.prorationBehavior !== 'none';
  const debits = debitsOf(world, subscription.id);

  if (starts) {
    const end = typeof trial === 'object' ? trial.end : null;
    const items = after.map((item) => ({
      ...item,
      current_period_start: now,
      current_period_end: end ?? boundary(now, recurrenceOf(item.price), 1),
    }));
    const credited = prorates ? creditsAt(debits, at) : [];
    return {
      items,
      anchor: end ?? now,
      credited,
      prorations: credited.map((credit) => creditLine(world, subscription, before, credit, at)),
      newPeriod: items.map((item) =>
        periodLine(world, item, end === null ? priceAmount(item.price, item.quantity ?? 1) : 0, end !== null),
      ),
      trial,
    };
  }

  const touched = touchedItems(before, after);
  const takesBack = prorates && !stillTrialing;
  const credited = takesBack
    ? creditsAt(
        debits.filter(({ item }) => touched.has(item)),
        at,
      )
    : [];
  const charges = takesBack
    ? after.filter(({ id }) => touched.has(id)).flatMap((item) => chargeLine(world, subscription, item, at))
    : [];
  return {
    items: after,
    anchor: subscription.billing_cycle_anchor,
    credited,
    prorations: [
      ...credited.map((credit) => creditLine(world, subscription, before, credit, at)),
      ...charges,
    ],
    newPeriod: [],
    trial,
  };
}

function prorationDate(subscription: Stripe.Subscription, wanted: WantedChange, now: number): number {
  if (wanted.prorationDate === null) return now;
  if (wanted.prorationDate < periodStart(subscription) || wanted.prorationDate > periodEnd(subscription))
    throw invalidRequest(
      'Cannot specify a proration date outside of the current billing period of the subscription.',
      { param: 'proration_date' },
    );
  return wanted.prorationDate;
}

function trialAfter(
  subscription: Stripe.Subscription,
  wanted: WantedChange,
  now: number,
): ChangePlan['trial'] {
  const { trialEnd } = wanted;
  if (trialEnd === undefined) return 'unchanged';
  if (trialEnd === 'now') return subscription.status === 'trialing' ? 'ended' : 'unchanged';
  if (trialEnd <= now)
    throw invalidRequest('Invalid timestamp: must be a time in the future', { param: 'trial_end' });
  return trialEnd === subscription.trial_end ? 'unchanged' : { end: trialEnd };
}

/** Stripe starts a new period when an item begins to recur differently. */
function intervalChanges(
  before: readonly Stripe.SubscriptionItem[],
  after: readonly Stripe.SubscriptionItem[],
): boolean {
  return after.some((item) => {
    const old = before.find(({ id }) => id === item.id);
    if (!old) return false;
    const [was, is] = [recurrenceOf(old.price), recurrenceOf(item.price)];
    return was.interval !== is.interval || was.count !== is.count;
  });
}

function touchedItems(
  before: readonly Stripe.SubscriptionItem[],
  after: readonly Stripe.SubscriptionItem[],
): ReadonlySet<string> {
  const same = (a: Stripe.SubscriptionItem, b: Stripe.SubscriptionItem | undefined): boolean =>
    a.price.id === b?.price.id && a.quantity === b.quantity;
  const touched = [
    ...before.filter(
      (item) =>
        !same(
          item,
          after.find(({ id }) => id === item.id),
        ),
    ),
    ...after.filter((item) => !before.some(({ id }) => id === item.id)),
  ];
  return new Set(touched.map(({ id }) => id));
}

function creditLine(
  world: World,
  subscription: Stripe.Subscription,
  items: readonly Stripe.SubscriptionItem[],
  credit: Credit,
  at: number,
): DraftLine {
  const price = world.get('price', credit.debit.price);
  return {
    amountCents: credit.amountCents,
    currency: subscription.currency,
    description: `Unused time on ${productName(world, price)} after ${day(at)}`,
    period: credit.period,
    price,
    quantity: credit.debit.quantity,
    subscription: subscription.id,
    subscriptionItem: credit.debit.item,
    proration: true,
    credits: credit.debit,
    invoiceItem: null,
    discountable: false,
    metadata: items.find(({ id }) => id === credit.debit.item)?.metadata ?? {},
  };
}

function chargeLine(
  world: World,
  subscription: Stripe.Subscription,
  item: Stripe.SubscriptionItem,
  at: number,
): readonly DraftLine[] {
  const quantity = item.quantity ?? 1;
  // Of the whole natural period, also where the first one was cut short by an anchor in the future.
  const whole: Period = periodAt(subscription.billing_cycle_anchor, recurrenceOf(item.price), at);
  const end = item.current_period_end;
  const amountCents = prorate(priceAmount(item.price, quantity), whole, at, end);
  if (at >= end) return [];
  return [
    {
      amountCents,
      currency: item.price.currency,
      description: `Remaining time on ${quantity === 1 ? '' : `${quantity} × `}${productName(world, item.price)} after ${day(at)}`,
      period: { start: at, end },
      price: item.price,
      quantity,
      subscription: subscription.id,
      subscriptionItem: item.id,
      proration: true,
      credits: null,
      invoiceItem: null,
      discountable: false,
      metadata: item.metadata,
    },
  ];
}

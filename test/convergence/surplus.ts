import type Stripe from 'stripe';
import { expect } from 'vitest';
import type { World } from '../../server/local-stripe/world.ts';
import { CATALOGUE } from '../../shared/catalog.ts';
import { refundsOf } from './customer.ts';
import { endedByUs, isLive, type PackSale } from './oracle.ts';

/** What was seen of a subscription at the moment in which we ended it. */
export type SurplusEnd = {
  readonly id: string;
  /** Since when another one had lived beside it, in unix seconds; null where none lived any more. */
  readonly since: number | null;
  /** It, or one beside it, was to end by itself or was paused. */
  readonly aside: boolean;
  /** The invoices that were paid by then; another payment can come within the same second. */
  readonly paid: ReadonlySet<string>;
};

/** Told of each event as it happens: what there is to see when it is that we have ended a subscription. */
export function seeEnd(world: World, { type, body }: { type: string; body: string }): SurplusEnd | null {
  if (type !== 'customer.subscription.deleted') return null;
  const { id, customer } = JSON.parse(body).data.object;
  const ended = world.get('subscription', id);
  if (!endedByUs(ended)) return null;
  const beside = world.ofCustomer('subscription', customer).filter(({ status }) => isLive(status));
  const first = Math.min(...beside.map(({ created }) => created));
  return {
    id,
    since: beside.length === 0 ? null : Math.max(ended.created, first),
    aside: [ended, ...beside].some((one) => isAside(world, one)),
    paid: new Set(invoicesOf(world, ended).map((invoice) => invoice.id)),
  };
}

/** Whether it is paused, or Stripe has been told to end it by itself, in whichever of the three ways. */
export const isAside = (world: World, one: Stripe.Subscription): boolean =>
  one.cancel_at !== null ||
  one.cancel_at_period_end ||
  one.pause_collection !== null ||
  one.status === 'paused' ||
  endsWithSchedule(world, one);

/** A schedule that was let go of is not named by its subscription any more; the end of one of ours ends it too. */
function endsWithSchedule(world: World, { schedule }: Stripe.Subscription): boolean {
  return (
    typeof schedule === 'string' && world.get('subscription_schedule', schedule).end_behavior === 'cancel'
  );
}

/**
 * Throws unless what was given back of a subscription we ended is what it cost while another one lived, at most.
 * What a second pack cost on one of its invoices is given back of the same charge, beside that.
 */
export function shareIsGivenBack(
  world: World,
  { id, since, paid: paidBefore }: SurplusEnd,
  secondPacks: readonly PackSale[],
): void {
  if (since === null) return;
  const subscription = world.get('subscription', id);
  const invoices = invoicesOf(world, subscription);
  const credits = hasCredits(invoices);
  const paid = invoices.map((invoice) => ({
    ...refundsFor(world, invoice, secondPacks),
    cents: costSince(invoice, id, since),
    most: mostOf(invoice, costSince(invoice, id, since), credits),
    early: paidBefore.has(invoice.id),
    lines: invoice.lines.data.length,
  }));
  const sum = (all: readonly { cents: number }[]) => all.reduce((total, { cents }) => total + cents, 0);
  // Each line may be rounded by itself.
  const slack = paid.reduce((total, { lines }) => total + lines, 0);
  const period = priceOfPeriod(world, subscription);
  const due = Math.max(0, sum(paid));
  const ours = paid.reduce((total, { byUs }) => total + byUs, 0);
  const packs = paid.reduce((total, { forPacks }) => total + forPacks, 0);

  expect(ours, 'never more than a period of it is given back by itself').toBeLessThanOrEqual(
    period + packs + slack,
  );
  expect(ours, 'never more than was for that time').toBeLessThanOrEqual(due + packs + slack);
  for (const { byUs, most, forPacks, lines } of paid)
    expect(byUs, 'never more of an invoice than was for that time').toBeLessThanOrEqual(
      most + forPacks + lines,
    );
  const early = Math.max(0, sum(paid.filter((one) => one.early)));
  if (early > period + slack)
    expect(ours, 'above a period of it a person decides').toBeLessThanOrEqual(packs);
  if (due > period - slack) return;
  // What the bank took back cannot be given back as well, and a refund that it sent back is for a person.
  const withTheBank = paid.filter((one) => one.withTheBank);
  const wanted = due - withTheBank.reduce((total, { most }) => total + most, 0);
  const given = paid
    .filter(({ withTheBank }) => !withTheBank)
    .reduce(
      (total, { refunded, forPacks, most }) => total + Math.min(Math.max(0, refunded - forPacks), most),
      0,
    );
  expect(given, 'what was paid for the time in which another one lived is given back').toBeGreaterThanOrEqual(
    wanted - slack,
  );
}

/** Of each charge of a subscription we ended, the most that can go back for it; each line may be rounded by itself. */
export function mostByCharge(world: World, { id, since }: SurplusEnd): Map<string, number> {
  const invoices = invoicesOf(world, world.get('subscription', id));
  const credits = hasCredits(invoices);
  return new Map(
    invoices.flatMap((invoice) =>
      chargesOf(world, invoice).map(({ id: charge, amount }) => [
        charge,
        since === null
          ? amount
          : mostOf(invoice, costSince(invoice, id, since), credits) + invoice.lines.data.length,
      ]),
    ),
  );
}

const hasCredits = (invoices: readonly Stripe.Invoice[]): boolean =>
  invoices.some(({ lines }) => lines.data.some(({ amount }) => amount < 0));

/**
 * The most that can go back by the payment of one invoice. A change of plan pays for its time with what was credited
 * of an earlier payment, so then only the sum of all is known.
 */
const mostOf = ({ amount_paid: paid }: Stripe.Invoice, cents: number, credits: boolean): number =>
  credits ? paid : Math.max(0, cents);

/** What was paid on an invoice for the time since a moment: each line by the part of its period that lies after it. */
function costSince(invoice: Stripe.Invoice, subscription: string, since: number): number {
  const parts = invoice.lines.data
    .filter(({ parent }) => parent?.subscription_item_details?.subscription === subscription)
    .map(({ amount, period: { start, end } }) =>
      since >= end ? 0 : amount * ((end - Math.max(start, since)) / (end - start)),
    );
  const cost = parts.reduce((total, part) => total + part, 0);
  // What was credited instead of charged has not been paid; a balance may have paid a part, or all of it.
  if (invoice.total <= 0) return Math.min(0, cost);
  return cost * Math.min(1, invoice.amount_paid / invoice.total);
}

function priceOfPeriod(world: World, { items }: Stripe.Subscription): number {
  return items.data.reduce((total, { price, quantity }) => {
    const key = world.get('price', price.id).lookup_key;
    const entry = CATALOGUE.find(({ lookupKey }) => lookupKey === key);
    return total + (entry?.amountCents ?? 0) * (quantity ?? 1);
  }, 0);
}

function refundsFor(world: World, invoice: Stripe.Invoice, secondPacks: readonly PackSale[]) {
  const charges = chargesOf(world, invoice);
  const ids = new Set<unknown>(charges.map(({ id }) => id));
  const refunds = refundsOf(world, String(invoice.customer)).filter(({ charge }) => ids.has(charge));
  return {
    refunded: charges.reduce((total, charge) => total + charge.amount_refunded, 0),
    byUs: refunds.reduce((total, { reason, amount }) => total + (reason === 'duplicate' ? amount : 0), 0),
    forPacks: secondPacks.reduce((total, { charge, cents }) => total + (ids.has(charge.id) ? cents : 0), 0),
    withTheBank:
      charges.some(({ disputed }) => disputed) || refunds.some(({ status }) => status === 'failed'),
  };
}

function invoicesOf(world: World, { id, customer }: Stripe.Subscription): readonly Stripe.Invoice[] {
  return world
    .ofCustomer('invoice', String(customer))
    .filter(({ status, parent }) => status === 'paid' && parent?.subscription_details?.subscription === id);
}

/** What was charged for an invoice. */
export function chargesOf(world: World, { id }: Stripe.Invoice): Stripe.Charge[] {
  return [...world.newestFirst('invoice_payment')]
    .filter(({ invoice, status }) => invoice === id && status === 'paid')
    .flatMap(({ payment: { payment_intent: intent } }) =>
      typeof intent === 'string'
        ? world.get('charge', String(world.get('payment_intent', intent).latest_charge))
        : [],
    );
}

/** Every charge of a subscription. */
export function chargesFor(world: World, subscription: Stripe.Subscription): Stripe.Charge[] {
  return invoicesOf(world, subscription).flatMap((invoice) => chargesOf(world, invoice));
}

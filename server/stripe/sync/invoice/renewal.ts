import type Stripe from 'stripe';
import type { StripeCalls } from '../../api/gateway.ts';
import type { Effect } from '../effects.ts';
import { renewedPlan } from '../subscription/billed-plan.ts';
import type { SubscriptionRow } from '../subscription/project.ts';
import type { PriceMap } from '../subscription/schedule.ts';

/** What the next renewal of a subscription will be, as Stripe computes it now, after it told us of one. */
export type RenewalFacts = {
  preview: Stripe.Invoice;
  lines: readonly Stripe.InvoiceLineItem[];
  /** When Stripe told of it, which is in the period that the renewal ends. */
  madeAt: Date;
};

/**
 * Reads the renewal of the account's subscription; null when there is none to come. `about` is the subscription
 * that was announced, null where the event did not name it: a renewal of another one is not ours to tell of.
 */
export async function readRenewal(
  stripe: StripeCalls,
  chosen: Stripe.Subscription | null,
  { about, madeAt }: { about: string | null; madeAt: Date },
): Promise<RenewalFacts | null> {
  if (chosen === null || (about !== null && about !== chosen.id)) return null;
  const preview = await stripe.previewRenewal(chosen);
  const lines = preview && (await stripe.readInvoiceLines(preview));
  return preview && lines && { preview, lines, madeAt };
}

/**
 * The notice of a renewal, once per period, and only where money will be asked for: of a subscription that will
 * go on, whose collection is not paused. Everything it says is what Stripe's preview says. An announcement heard
 * after its renewal says nothing: the next one is told of by an event of its own.
 */
export function renewalNotice(
  {
    row,
    chosen,
    prices,
  }: { row: SubscriptionRow | null; chosen: Stripe.Subscription | null; prices: PriceMap },
  { preview, lines, madeAt }: RenewalFacts,
): Effect[] {
  if (!row || !chosen || row.stripeSubscriptionId !== chosen.id || !isBilled(chosen)) return [];
  if (madeAt < row.currentPeriodStart) return [];
  const renewed = renewedPlan(lines, chosen.id, prices);
  if (renewed === null) return [];
  const renewsAt = new Date(renewed.startsAt * 1000);
  if (row.endsAt !== null && row.endsAt <= renewsAt) return [];
  // It was renewed while we were reading: this is the renewal after that one.
  if (renewsAt > row.currentPeriodEnd) return [];
  const { amount_due: amountCents, currency } = preview;
  const charged = chosen.collection_method !== 'send_invoice';
  const data = { plan: renewed.plan, amountCents, currency, renewsAt, charged };
  return [
    { kind: 'mail', key: `renewal:${chosen.id}:${renewed.startsAt}`, template: 'renewal_upcoming', data },
  ];
}

/** The end of a trial is told of by a mail of its own; an unpaid or paused subscription renews without asking for money. */
function isBilled({ status, pause_collection }: Stripe.Subscription): boolean {
  return (status === 'active' || status === 'past_due') && !pause_collection;
}

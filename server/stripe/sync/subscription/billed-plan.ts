import type Stripe from 'stripe';
import type { Plan } from '../../../notify/templates.ts';
import { idOf } from '../purchase/purchase.ts';
import type { PriceMap } from './schedule.ts';

type Lines = readonly Stripe.InvoiceLineItem[];

/**
 * The plan that an invoice of this subscription bills, by the prices on its lines: of whole periods, or else what
 * a change in mid-period costs more. Null where it bills no plan of ours, or more than one.
 */
export function billedPlan(lines: Lines, subscription: string, prices: PriceMap): Plan | null {
  const own = ofPlans(lines, subscription, prices);
  const periods = own.filter(({ proration }) => !proration);
  return onlyPlan(periods.length > 0 ? periods : own.filter(({ line }) => line.amount > 0));
}

/** The plan whose next period a preview bills, and when that begins (unix seconds); null as above. */
export function renewedPlan(
  lines: Lines,
  subscription: string,
  prices: PriceMap,
): { plan: Plan; startsAt: number } | null {
  const periods = ofPlans(lines, subscription, prices).filter(({ proration }) => !proration);
  const plan = onlyPlan(periods);
  const starts = new Set(periods.map(({ line }) => line.period.start));
  const [startsAt] = starts;
  return plan === null || startsAt === undefined || starts.size > 1 ? null : { plan, startsAt };
}

function ofPlans(lines: Lines, subscription: string, prices: PriceMap) {
  return lines.flatMap((line) => {
    const item = line.parent?.subscription_item_details;
    const plan = prices.get(idOf(line.pricing?.price_details?.price) ?? '');
    if (!item || !plan || idOf(item.subscription) !== subscription) return [];
    return [{ line, plan, proration: item.proration }];
  });
}

function onlyPlan(billed: readonly { plan: Plan }[]): Plan | null {
  const [first, ...others] = billed.map(({ plan }) => plan);
  if (first === undefined) return null;
  const same = (plan: Plan) => plan.tier === first.tier && plan.billingPeriod === first.billingPeriod;
  return others.every(same) ? { tier: first.tier, billingPeriod: first.billingPeriod } : null;
}

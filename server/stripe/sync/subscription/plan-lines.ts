import type Stripe from 'stripe';
import { isSamePlan, type PriceMap, type PriceMeaning } from './schedule.ts';

type Line = Stripe.InvoiceLineItem;

/**
 * Since when an invoice bills this plan in place of another: the start that a line of it shares with one that
 * credits what is left of the other. Null where no two lines say so, as on the invoice of a renewal.
 */
export function billedSince(lines: readonly Line[], prices: PriceMap, plan: PriceMeaning): Date | null {
  const isOfPlan = (line: Line): boolean => {
    const meaning = prices.get(priceOf(line) ?? '');
    return meaning !== undefined && isSamePlan(meaning, plan);
  };
  const credits = lines.filter((line) => line.amount < 0 && priceOf(line) !== null && !isOfPlan(line));
  const starts = lines
    .filter((line) => line.amount >= 0 && isOfPlan(line))
    .map(({ period }) => period.start)
    .filter((start) => credits.some(({ period }) => period.start === start));
  return starts.length === 0 ? null : new Date(Math.max(...starts) * 1000);
}

function priceOf({ pricing }: Line): string | null {
  const price = pricing?.price_details?.price;
  return price === undefined ? null : typeof price === 'string' ? price : price.id;
}

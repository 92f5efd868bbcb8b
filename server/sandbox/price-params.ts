import { currency, decimal, int, intBetween, oneOf, params } from './params.ts';

/** What a price is made from, without its product: also for the `price_data` of other requests. */
export const newPriceParams = {
  currency,
  recurring: params({
    interval: oneOf('day', 'week', 'month', 'year'),
    interval_count: intBetween(1, 1095).optional(),
    trial_period_days: intBetween(0, 730).optional(),
    usage_type: oneOf('licensed').optional(),
  }).optional(),
  tax_behavior: oneOf('exclusive', 'inclusive', 'unspecified').optional(),
  unit_amount: int.optional(),
  unit_amount_decimal: decimal.optional(),
};

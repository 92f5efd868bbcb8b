import type Stripe from 'stripe';
import { z } from 'zod';
import {
  arrayOf,
  bool,
  currency,
  decimal,
  emptyable,
  int,
  intBetween,
  metadata,
  oneOf,
  params,
  text,
  webAddress,
} from './params.ts';

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

/** What of a price can be written at any time; its amount never. */
export const priceFields = {
  active: bool.optional(),
  lookup_key: emptyable(text.max(200)).optional(),
  metadata: metadata.optional(),
  nickname: emptyable(text).optional(),
  tax_behavior: newPriceParams.tax_behavior,
  transfer_lookup_key: bool.optional(),
};

const newProduct = params({
  active: bool.optional(),
  id: text.optional(),
  metadata: metadata.optional(),
  name: text,
  statement_descriptor: text.max(22).optional(),
  tax_code: text.optional(),
  unit_label: text.optional(),
});

/** A new price. */
export const newPrice = {
  ...priceFields,
  ...newPriceParams,
  billing_scheme: oneOf('per_unit').optional(),
  product: text.optional(),
  product_data: newProduct.optional(),
};

export type PriceFields = z.output<z.ZodObject<typeof priceFields>>;
export type NewPrice = z.output<z.ZodObject<typeof newPrice>>;

const amount = z.string().transform(Number).pipe(z.number().positive());

/** What of a product can be written at any time. */
export const productFields = {
  active: bool.optional(),
  description: emptyable(text).optional(),
  images: arrayOf(text).optional(),
  marketing_features: arrayOf(params({ name: text })).optional(),
  metadata: metadata.optional(),
  package_dimensions: emptyable(
    params({ height: amount, length: amount, weight: amount, width: amount }),
  ).optional(),
  shippable: bool.optional(),
  statement_descriptor: emptyable(text.max(22)).optional(),
  tax_code: emptyable(text).optional(),
  unit_label: emptyable(text).optional(),
  url: emptyable(webAddress).optional(),
};

/** The price made along with a product. */
export const defaultPrice = params({
  currency: newPriceParams.currency,
  metadata: metadata.optional(),
  recurring: newPriceParams.recurring,
  tax_behavior: newPriceParams.tax_behavior,
  unit_amount: int.optional(),
  unit_amount_decimal: decimal.optional(),
});

export type ProductFields = z.output<z.ZodObject<typeof productFields>>;
export type NewProduct = ProductFields & {
  name: string;
  id?: string | undefined;
  type?: Stripe.Product.Type | undefined;
  default_price_data?: z.output<typeof defaultPrice> | undefined;
};

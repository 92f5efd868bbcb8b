import type Stripe from 'stripe';
import { z } from 'zod';
import { idOf } from '../billing/customers.ts';
import { recurrenceOf, usablePrice } from '../billing/prices.ts';
import type { WantedItem } from '../billing/subscription-object.ts';
import { createPrice } from '../catalogue.ts';
import { newPriceParams } from '../catalogue-params.ts';
import { invalidRequest } from '../errors.ts';
import {
  bool,
  emptyable,
  intBetween,
  type MetadataChange,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  refuse,
  text,
  timestamp,
  timestampOrNow,
} from '../params.ts';
import type { World } from '../world.ts';

const notSupported = z
  .unknown()
  .optional()
  .transform((value, context): undefined =>
    value === undefined
      ? undefined
      : refuse(context, 'Stripe knows this parameter, but the local Stripe does not support it.'),
  );

/** Parameters that Stripe documents and the local Stripe does not support: each is refused saying so. */
export function unsupported<const N extends string>(...names: N[]): Record<N, typeof notSupported> {
  // fromEntries widens the keys to string; they are exactly the names.
  return Object.fromEntries(names.map((name) => [name, notSupported])) as Record<N, typeof notSupported>;
}

/** `{ enabled: false }`, the one value of features that are out of scope which changes nothing. */
export const onlyDisabled = params({
  enabled: bool.transform((value, context) =>
    value ? refuse(context, 'The local Stripe does not support switching this on.') : value,
  ),
  ...unsupported('liability'),
});

export const priceData = params({ ...newPriceParams, product: text });

/** One of `items[]` when a subscription or a phase is created. */
export const newItemParams = params({
  price: text.optional(),
  price_data: priceData.optional(),
  quantity: intBetween(0, 999_999).optional(),
  metadata: metadata.optional(),
  ...unsupported('billing_thresholds', 'current_trial', 'discounts', 'plan', 'tax_rates'),
});

export const prorationBehavior = oneOf('create_prorations', 'none', 'always_invoice');
export const paymentBehavior = oneOf(
  'allow_incomplete',
  'default_incomplete',
  'error_if_incomplete',
  'pending_if_incomplete',
);

export const trialSettings = params({
  end_behavior: params({
    missing_payment_method: oneOf('cancel', 'create_invoice', 'pause'),
    ...unsupported('billing_cycle_anchor'),
  }),
});

export const cancellationDetails = params({
  comment: emptyable(text).optional(),
  feedback: emptyable(
    oneOf(
      'customer_service',
      'low_quality',
      'missing_features',
      'other',
      'switched_service',
      'too_complex',
      'too_expensive',
      'unused',
    ),
  ).optional(),
  ...unsupported('feedback_option'),
});

/** A time, or the first or last end of the items' periods. */
export const cancelAt = z.union([timestamp, oneOf('min_period_end', 'max_period_end')]);
export const trialEnd = timestampOrNow;

type GivenItem = {
  readonly price?: string | undefined;
  readonly price_data?: z.output<typeof priceData> | undefined;
  readonly quantity?: number | undefined;
  readonly metadata?: MetadataChange | undefined;
};

/** The price named or described; Stripe's refusals otherwise. */
export function givenPrice(world: World, given: GivenItem, param: string): Stripe.Price {
  if (given.price_data !== undefined) return createPrice(world, given.price_data);
  if (given.price === undefined)
    throw invalidRequest(`Missing required param: ${param}[price].`, {
      code: 'parameter_missing',
      param: `${param}[price]`,
    });
  return usablePrice(world, given.price, `${param}[price]`);
}

/** Recurring items, all in one currency. */
export function wantedItems(world: World, given: readonly GivenItem[], param: string): readonly WantedItem[] {
  const items = given.map((item, at): WantedItem => {
    const price = givenPrice(world, item, `${param}[${at}]`);
    recurrenceOf(price, `${param}[${at}][price]`);
    return { price, quantity: item.quantity ?? 1, metadata: mergeMetadata({}, item.metadata) };
  });
  const [first] = items;
  if (!first) throw invalidRequest(`Missing required param: ${param}.`, { code: 'parameter_missing', param });
  if (items.some(({ price }) => price.currency !== first.price.currency))
    throw invalidRequest('All prices on a subscription must have the same currency.', { param });
  if (new Set(items.map(({ price }) => price.id)).size < items.length)
    throw invalidRequest('Cannot add multiple subscription items with the same plan.', { param });
  return items;
}

/** A payment method of this customer, or Stripe's refusal. */
export function customersMethod(world: World, id: string, customer: string, param: string): string {
  const method = world.find('payment_method', id);
  if (!method || idOf(method.customer) !== customer)
    throw invalidRequest(
      `The customer does not have a payment method with the ID ${id}. The payment method must be attached to the customer.`,
      { code: 'resource_missing', param },
    );
  return method.id;
}

/** The behaviours that are played; `pending_if_incomplete` is refused. */
export function playedBehavior(
  given: z.output<typeof paymentBehavior> | undefined,
): 'allow_incomplete' | 'default_incomplete' | 'error_if_incomplete' {
  if (given === 'pending_if_incomplete')
    throw invalidRequest('The local Stripe does not support payment_behavior=pending_if_incomplete.', {
      param: 'payment_behavior',
    });
  return given ?? 'allow_incomplete';
}

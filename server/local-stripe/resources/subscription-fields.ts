import type Stripe from 'stripe';
import { z } from 'zod';
import { periodEnd } from '../billing/subscription-object.ts';
import { invalidRequest } from '../errors.ts';
import {
  arrayOf,
  bool,
  emptyable,
  intBetween,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  text,
  timestamp,
} from '../params.ts';
import type { World } from '../world.ts';
import {
  cancelAt,
  cancellationDetails,
  customersMethod,
  onlyDisabled,
  paymentBehavior,
  prorationBehavior,
  trialEnd,
  trialSettings,
  unsupported,
} from './billing-params.ts';

/** What both creation and update of a subscription take. */
export const subscriptionFields = {
  cancel_at: emptyable(cancelAt).optional(),
  // '' unsets, as with every flag of Stripe's.
  cancel_at_period_end: z.preprocess((value) => (value === '' ? 'false' : value), bool).optional(),
  cancellation_details: cancellationDetails.optional(),
  collection_method: oneOf('charge_automatically', 'send_invoice').optional(),
  days_until_due: intBetween(0, 365).optional(),
  default_payment_method: emptyable(text).optional(),
  description: emptyable(text.max(500)).optional(),
  invoice_settings: params({
    description: emptyable(text).optional(),
    footer: emptyable(text).optional(),
    ...unsupported('account_tax_ids', 'custom_fields', 'issuer'),
  }).optional(),
  metadata: metadata.optional(),
  off_session: bool.optional(),
  payment_behavior: paymentBehavior.optional(),
  payment_settings: params({
    payment_method_types: arrayOf(text).optional(),
    save_default_payment_method: oneOf('off', 'on_subscription').optional(),
    ...unsupported('payment_method_options'),
  }).optional(),
  pause_collection: emptyable(
    params({
      behavior: oneOf('keep_as_draft', 'mark_uncollectible', 'void'),
      resumes_at: timestamp.optional(),
    }),
  ).optional(),
  proration_behavior: prorationBehavior.optional(),
  trial_end: trialEnd.optional(),
  trial_settings: trialSettings.optional(),
  automatic_tax: onlyDisabled.optional(),
  ...unsupported(
    'add_invoice_items',
    'application_fee_percent',
    'billing_schedules',
    'billing_thresholds',
    'customer_account',
    'default_source',
    'default_tax_rates',
    'discounts',
    'on_behalf_of',
    'pending_invoice_item_interval',
    'transfer_data',
    'trial_from_plan',
  ),
};

type Given = z.output<z.ZodObject<typeof subscriptionFields>>;

/** The given fields as a subscription keeps them; what is left out stays as it is. */
export function keptFields(
  world: World,
  customer: string,
  given: Given,
  before: Stripe.Subscription | null,
): Partial<Stripe.Subscription> {
  const { payment_settings: payment, invoice_settings: invoice, pause_collection: pause } = given;
  const settings = before?.payment_settings;
  return {
    ...cancellation(world, given, before),
    ...(given.collection_method === undefined ? {} : { collection_method: given.collection_method }),
    ...(given.days_until_due === undefined ? {} : { days_until_due: given.days_until_due }),
    ...(given.default_payment_method === undefined
      ? {}
      : { default_payment_method: methodOrNull(world, given.default_payment_method, customer) }),
    ...(given.description === undefined ? {} : { description: given.description }),
    ...(given.metadata === undefined
      ? {}
      : { metadata: mergeMetadata(before?.metadata ?? {}, given.metadata) }),
    ...(given.trial_settings === undefined
      ? {}
      : {
          trial_settings: {
            end_behavior: {
              billing_cycle_anchor: null,
              missing_payment_method: given.trial_settings.end_behavior.missing_payment_method,
            },
          },
        }),
    ...(payment === undefined
      ? {}
      : {
          payment_settings: {
            payment_method_options: settings?.payment_method_options ?? null,
            payment_method_types: payment.payment_method_types
              ? payment.payment_method_types
              : (settings?.payment_method_types ?? null),
            save_default_payment_method:
              payment.save_default_payment_method ?? settings?.save_default_payment_method ?? 'off',
          },
        }),
    ...(invoice === undefined
      ? {}
      : {
          invoice_settings: {
            account_tax_ids: null,
            custom_fields: null,
            description: invoice.description ?? before?.invoice_settings.description ?? null,
            footer: invoice.footer ?? before?.invoice_settings.footer ?? null,
            issuer: { type: 'self' },
          },
        }),
    ...(pause === undefined
      ? {}
      : {
          pause_collection:
            pause === null ? null : { behavior: pause.behavior, resumes_at: pause.resumes_at ?? null },
        }),
  };
}

/** `cancel_at` for a word or a time; `end` is that of the present period. */
export function cancelAtTime(
  given: number | 'min_period_end' | 'max_period_end',
  items: readonly Pick<Stripe.SubscriptionItem, 'current_period_end'>[],
): number {
  const ends = items.map((item) => item.current_period_end);
  if (given === 'min_period_end') return Math.min(...ends);
  return given === 'max_period_end' ? Math.max(...ends) : given;
}

function cancellation(
  world: World,
  given: Given,
  before: Stripe.Subscription | null,
): Partial<Stripe.Subscription> {
  const { cancel_at: at, cancel_at_period_end: flag } = given;
  if (at !== undefined && at !== null && flag === true)
    throw invalidRequest(
      'Received both cancel_at and cancel_at_period_end parameters. Please pass in only one.',
      {
        code: 'parameters_exclusive',
      },
    );
  const details = given.cancellation_details;
  const none = { comment: null, feedback: null, feedback_option: null, reason: null };
  const known = { ...none, ...before?.cancellation_details };
  const told = {
    ...known,
    ...(details?.comment === undefined ? {} : { comment: details.comment }),
    ...(details?.feedback === undefined ? {} : { feedback: details.feedback }),
  };
  const detailsOnly = details === undefined ? {} : { cancellation_details: told };
  if (before === null) return detailsOnly;
  const now = world.now(typeof before.test_clock === 'string' ? before.test_clock : null);
  const undo = {
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { ...told, reason: null },
  };
  const requested = {
    canceled_at: now,
    cancellation_details: { ...told, reason: 'cancellation_requested' as const },
  };
  if (flag === true) return { cancel_at: periodEnd(before), cancel_at_period_end: true, ...requested };
  if (at !== undefined && at !== null) {
    const time = cancelAtTime(at, before.items.data);
    if (time <= now) throw invalidRequest('cancel_at must be a time in the future.', { param: 'cancel_at' });
    return { cancel_at: time, cancel_at_period_end: false, ...requested };
  }
  if (at === null) return undo;
  return flag === false && before.cancel_at_period_end ? undo : detailsOnly;
}

function methodOrNull(world: World, id: string | null, customer: string): string | null {
  return id === null ? null : customersMethod(world, id, customer, 'default_payment_method');
}

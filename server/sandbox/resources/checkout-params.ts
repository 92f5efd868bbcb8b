import type { z } from 'zod';
import {
  arrayOf,
  bool,
  currency,
  intBetween,
  metadata,
  oneOf,
  params,
  refuse,
  shipping,
  text,
  timestamp,
} from '../params.ts';
import {
  newItemParams,
  onlyDisabled,
  prorationBehavior,
  trialSettings,
  unsupported,
} from './billing-params.ts';

// `{CHECKOUT_SESSION_ID}` is filled in when the customer returns; with it the address may not be a strict URL.
const redirectAddress = text.transform((value, context) => {
  const filled = value.replaceAll('{CHECKOUT_SESSION_ID}', 'cs_test_1');
  const url = URL.canParse(filled) ? new URL(filled) : null;
  if (url !== null && url.protocol.length > 1 && value.length <= 5_000) return value;
  return refuse(context, 'Not a valid URL', 'url_invalid');
});

const { metadata: _metadata, ...lineItem } = newItemParams.shape;

/** What a Checkout Session is created with. */
export const newSession = params({
  allow_promotion_codes: bool.optional(),
  allowed_payment_method_types: arrayOf(oneOf('card', 'sepa_debit', 'us_bank_account')).optional(),
  automatic_tax: onlyDisabled.optional(),
  billing_address_collection: oneOf('auto', 'required').optional(),
  cancel_url: redirectAddress.optional(),
  client_reference_id: text.max(200).optional(),
  currency: currency.optional(),
  customer: text.optional(),
  customer_creation: oneOf('always', 'if_required').optional(),
  customer_email: text.max(800).optional(),
  expires_at: timestamp.optional(),
  line_items: arrayOf(
    params({
      ...lineItem,
      metadata: metadata.optional(),
      ...unsupported('adjustable_quantity', 'dynamic_tax_rates'),
    }),
  ),
  locale: text.optional(),
  metadata: metadata.optional(),
  mode: oneOf('payment', 'subscription'),
  origin_context: oneOf('mobile_app', 'web').optional(),
  payment_intent_data: params({
    description: text.optional(),
    metadata: metadata.optional(),
    receipt_email: text.optional(),
    setup_future_usage: oneOf('off_session', 'on_session').optional(),
    shipping: shipping.optional(),
    ...unsupported(
      'application_fee_amount',
      'capture_method',
      'on_behalf_of',
      'statement_descriptor',
      'statement_descriptor_suffix',
      'transfer_data',
      'transfer_group',
    ),
  }).optional(),
  payment_method_collection: oneOf('always', 'if_required').optional(),
  // Gone from the pinned version, but Stripe's own CLI still sends it.
  payment_method_types: arrayOf(oneOf('card', 'sepa_debit', 'us_bank_account')).optional(),
  submit_type: oneOf('auto', 'book', 'donate', 'pay', 'subscribe').optional(),
  subscription_data: params({
    billing_cycle_anchor: timestamp.optional(),
    description: text.max(500).optional(),
    metadata: metadata.optional(),
    proration_behavior: prorationBehavior.optional(),
    trial_end: timestamp.optional(),
    trial_period_days: intBetween(1, 730).optional(),
    trial_settings: trialSettings.optional(),
    ...unsupported(
      'application_fee_percent',
      'billing_mode',
      'default_tax_rates',
      'invoice_settings',
      'on_behalf_of',
      'pending_invoice_item_interval',
      'transfer_data',
    ),
  }).optional(),
  success_url: redirectAddress,
  ui_mode: oneOf('hosted_page').optional(),
  ...unsupported(
    'adaptive_pricing',
    'after_expiration',
    'branding_settings',
    'consent_collection',
    'custom_fields',
    'custom_text',
    'customer_account',
    'customer_update',
    'discounts',
    'excluded_payment_method_types',
    'integration_identifier',
    'invoice_creation',
    'managed_payments',
    'name_collection',
    'optional_items',
    'payment_method_configuration',
    'payment_method_data',
    'payment_method_options',
    'permissions',
    'phone_number_collection',
    'redirect_on_completion',
    'return_url',
    'saved_payment_method_options',
    'setup_intent_data',
    'shipping_address_collection',
    'shipping_options',
    'tax_id_collection',
    'wallet_options',
  ),
});

export type GivenSession = z.output<typeof newSession>;

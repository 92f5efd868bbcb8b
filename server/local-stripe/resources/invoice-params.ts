import {
  bool,
  currency,
  emptyable,
  intBetween,
  metadata,
  oneOf,
  params,
  text,
  timestamp,
} from '../params.ts';
import { onlyDisabled, unsupported } from './billing-params.ts';

/** What can be set on an invoice at any time. */
export const writable = {
  auto_advance: bool.optional(),
  automatic_tax: onlyDisabled.optional(),
  collection_method: oneOf('charge_automatically', 'send_invoice').optional(),
  days_until_due: intBetween(0, 365).optional(),
  default_payment_method: text.optional(),
  description: emptyable(text).optional(),
  due_date: timestamp.optional(),
  footer: emptyable(text).optional(),
  metadata: metadata.optional(),
  ...unsupported(
    'account_tax_ids',
    'application_fee_amount',
    'automatically_finalizes_at',
    'custom_fields',
    'default_source',
    'default_tax_rates',
    'discounts',
    'effective_at',
    'issuer',
    'number',
    'on_behalf_of',
    'payment_settings',
    'rendering',
    'shipping_cost',
    'shipping_details',
    'statement_descriptor',
    'transfer_data',
  ),
};

/** What an invoice is made with. */
export const newInvoice = params({
  ...writable,
  currency: currency.optional(),
  customer: text,
  pending_invoice_items_behavior: oneOf('include', 'exclude').optional(),
  subscription: text.optional(),
  ...unsupported('customer_account', 'from_invoice'),
});

/** How an invoice is paid. */
export const payment = params({
  forgive: bool.optional(),
  off_session: bool.optional(),
  paid_out_of_band: bool.optional(),
  payment_method: text.optional(),
  ...unsupported('mandate', 'source'),
});

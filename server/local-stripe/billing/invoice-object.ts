import type Stripe from 'stripe';
import { listOf } from '../list.ts';
import type { World } from '../world.ts';
import { clockOfCustomer, customerIfAlive } from './customers.ts';
import { type DraftLine, lineOn } from './lines.ts';

export interface NewInvoice {
  readonly id?: string;
  readonly customer: string;
  readonly subscription: Stripe.Subscription | null;
  readonly reason: Stripe.Invoice.BillingReason;
  readonly lines: readonly DraftLine[];
  readonly currency: string;
  readonly period: { readonly start: number; readonly end: number };
  readonly collectionMethod?: 'charge_automatically' | 'send_invoice';
  readonly daysUntilDue?: number | null;
  readonly defaultPaymentMethod?: string | null;
  readonly description?: string | null;
  readonly footer?: string | null;
  readonly metadata?: Stripe.Metadata;
  readonly autoAdvance?: boolean;
  readonly prorationDate?: number;
}

/** A draft invoice in full, with its lines; nothing is stored. */
export function draftInvoice(world: World, given: NewInvoice, id: string): Stripe.Invoice {
  const clock = clockOfCustomer(world, given.customer);
  const customer = customerIfAlive(world, given.customer);
  const now = world.now(clock);
  const lines = given.lines.map((line) => lineOn(id, line));
  const total = given.lines.reduce((sum, line) => sum + line.amountCents, 0);
  const collection = given.collectionMethod ?? 'charge_automatically';
  return {
    id,
    object: 'invoice',
    account_country: 'US',
    account_name: 'Local Stripe',
    account_tax_ids: null,
    amount_due: Math.max(0, total),
    amount_overpaid: 0,
    amount_paid: 0,
    amount_remaining: Math.max(0, total),
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: given.autoAdvance ?? true,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null, provider: null, status: null },
    automatically_finalizes_at: null,
    billing_reason: given.reason,
    collection_method: collection,
    created: now,
    currency: given.currency,
    custom_fields: null,
    customer: given.customer,
    customer_account: null,
    customer_address: customer?.address ?? null,
    customer_email: customer?.email ?? null,
    customer_name: customer?.name ?? null,
    customer_phone: customer?.phone ?? null,
    customer_shipping: null,
    customer_tax_exempt: customer?.tax_exempt ?? 'none',
    customer_tax_ids: [],
    default_payment_method: given.defaultPaymentMethod ?? null,
    default_source: null,
    default_tax_rates: [],
    description: given.description ?? null,
    discounts: [],
    due_date: collection === 'send_invoice' ? now + (given.daysUntilDue ?? 30) * 86_400 : null,
    effective_at: null,
    ending_balance: null,
    footer: given.footer ?? null,
    from_invoice: null,
    hosted_invoice_url: null,
    invoice_pdf: null,
    issuer: { type: 'self' },
    last_finalization_error: null,
    latest_revision: null,
    lines: listOf(lines, `/v1/invoices/${id}/lines`),
    livemode: false,
    metadata: given.metadata ?? {},
    next_payment_attempt: null,
    number: null,
    on_behalf_of: null,
    parent: invoiceParent(given),
    payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
    period_end: given.period.end,
    period_start: given.period.start,
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: customer?.balance ?? 0,
    statement_descriptor: null,
    status: 'draft',
    status_transitions: { finalized_at: null, marked_uncollectible_at: null, paid_at: null, voided_at: null },
    subtotal: total,
    subtotal_excluding_tax: total,
    test_clock: clock,
    total,
    total_discount_amounts: [],
    total_excluding_tax: total,
    total_pretax_credit_amounts: [],
    total_taxes: [],
    webhooks_delivered_at: null,
  };
}

/** The subscription an invoice bills, or null. */
export function subscriptionOf(invoice: Stripe.Invoice): string | null {
  const subscription = invoice.parent?.subscription_details?.subscription;
  if (subscription === undefined) return null;
  return typeof subscription === 'string' ? subscription : subscription.id;
}

function invoiceParent({ subscription, prorationDate }: NewInvoice): Stripe.Invoice.Parent | null {
  if (subscription === null) return null;
  return {
    type: 'subscription_details',
    quote_details: null,
    subscription_details: {
      metadata: subscription.metadata,
      subscription: subscription.id,
      ...(prorationDate === undefined ? {} : { subscription_proration_date: prorationDate }),
    },
  };
}

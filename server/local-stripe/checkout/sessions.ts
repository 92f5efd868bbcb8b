import { randomBytes } from 'node:crypto';
import type Stripe from 'stripe';
import { baseUrl } from '../billing/customers.ts';
import { priceAmount, productName } from '../billing/prices.ts';
import type { WantedItem } from '../billing/subscription-object.ts';
import type { World } from '../world.ts';
import type { CheckoutDetails } from './details.ts';

export interface NewCheckoutSession {
  readonly mode: 'payment' | 'subscription';
  readonly currency: string;
  readonly paymentMethodTypes: string[];
  readonly allowedPaymentMethodTypes: string[] | null;
  readonly expiresAt: number;
  readonly details: CheckoutDetails;
  /** Fields that are simply kept: URLs, metadata, customer, reference … */
  readonly fields: Partial<Stripe.Checkout.Session>;
}

/** Stores an open session with its page's address; it expires by itself. Creation tells no event. */
export function createCheckoutSession(world: World, given: NewCheckoutSession): Stripe.Checkout.Session {
  const id = world.newId('checkout.session');
  const trial = given.details.subscription.trialDays !== null || given.details.subscription.trialEnd !== null;
  const subtotal = given.details.lineItems.reduce((sum, line) => sum + line.amount_subtotal, 0);
  const total = trial
    ? given.details.lineItems.reduce((sum, line) => sum + (line.price?.recurring ? 0 : line.amount_total), 0)
    : subtotal;
  const session: Stripe.Checkout.Session = {
    object: 'checkout.session',
    adaptive_pricing: { enabled: false },
    after_expiration: null,
    allow_promotion_codes: null,
    allowed_payment_method_types: given.allowedPaymentMethodTypes,
    amount_subtotal: trial ? total : subtotal,
    amount_total: total,
    automatic_tax: { enabled: false, liability: null, provider: null, status: null },
    billing_address_collection: null,
    cancel_url: null,
    client_reference_id: null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: world.now(),
    currency: given.currency,
    currency_conversion: null,
    custom_fields: [],
    custom_text: {
      after_submit: null,
      shipping_address: null,
      submit: null,
      terms_of_service_acceptance: null,
    },
    customer: null,
    customer_account: null,
    customer_creation: given.mode === 'subscription' ? 'always' : 'if_required',
    customer_details: null,
    customer_email: null,
    discounts: [],
    integration_identifier: null,
    invoice: null,
    invoice_creation: given.mode === 'payment' ? noInvoice() : null,
    livemode: false,
    locale: null,
    managed_payments: null,
    metadata: {},
    mode: given.mode,
    origin_context: null,
    payment_intent: null,
    payment_link: null,
    payment_method_collection: given.mode === 'subscription' ? 'always' : 'if_required',
    payment_method_configuration_details: null,
    payment_method_options: { card: { request_three_d_secure: 'automatic' } },
    payment_method_types: given.paymentMethodTypes,
    payment_status: given.mode === 'payment' && total === 0 ? 'no_payment_required' : 'unpaid',
    permissions: null,
    phone_number_collection: { enabled: false },
    recovered_from: null,
    saved_payment_method_options:
      given.mode === 'subscription'
        ? {
            allow_redisplay_filters: ['always'],
            payment_method_remove: 'disabled',
            payment_method_save: null,
          }
        : null,
    setup_intent: null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [],
    status: 'open',
    submit_type: null,
    subscription: null,
    success_url: null,
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: 'hosted_page',
    wallet_options: null,
    ...given.fields,
    id,
    expires_at: given.expiresAt,
    url: `${baseUrl(world)}/c/pay/${id}`,
  };
  world.hidden.put('checkout', id, given.details);
  world.wake('checkout.expire', id, given.expiresAt, null);
  return world.add('checkout.session', session);
}

/** What is bought, as `line_items` shows it. */
export function checkoutLine(world: World, item: WantedItem): Stripe.LineItem {
  const amount = priceAmount(item.price, item.quantity);
  return {
    id: `li_${randomBytes(12).toString('hex')}`,
    object: 'item',
    adjustable_quantity: null,
    amount_discount: 0,
    amount_subtotal: amount,
    amount_tax: 0,
    amount_total: amount,
    currency: item.price.currency,
    description: productName(world, item.price),
    metadata: item.metadata,
    price: item.price,
    quantity: item.quantity,
  };
}

function noInvoice(): Stripe.Checkout.Session.InvoiceCreation {
  return {
    enabled: false,
    invoice_data: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: null,
      metadata: {},
      rendering_options: null,
    },
  };
}

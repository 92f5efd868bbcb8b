import type Stripe from 'stripe';

/** Every kind of Stripe object that the local Stripe keeps, under the name its `object` field carries. */
export interface StripeObjects {
  balance_transaction: Stripe.BalanceTransaction;
  'billing_portal.configuration': Stripe.BillingPortal.Configuration;
  'billing_portal.session': Stripe.BillingPortal.Session;
  charge: Stripe.Charge;
  'checkout.session': Stripe.Checkout.Session;
  customer: Stripe.Customer | Stripe.DeletedCustomer;
  dispute: Stripe.Dispute;
  event: Stripe.Event;
  invoice: Stripe.Invoice;
  invoice_payment: Stripe.InvoicePayment;
  invoiceitem: Stripe.InvoiceItem;
  payment_intent: Stripe.PaymentIntent;
  payment_method: Stripe.PaymentMethod;
  price: Stripe.Price;
  product: Stripe.Product;
  refund: Stripe.Refund;
  setup_intent: Stripe.SetupIntent;
  subscription: Stripe.Subscription;
  subscription_schedule: Stripe.SubscriptionSchedule;
  'test_helpers.test_clock': Stripe.TestHelpers.TestClock;
  webhook_endpoint: Stripe.WebhookEndpoint;
}

export type Kind = keyof StripeObjects;

/** The prefix of each kind's ids, as Stripe writes them. Bare ids are resolved to their kind by it. */
export const ID_PREFIX = {
  balance_transaction: 'txn',
  'billing_portal.configuration': 'bpc',
  'billing_portal.session': 'bps',
  charge: 'ch',
  'checkout.session': 'cs_test',
  customer: 'cus',
  dispute: 'du',
  event: 'evt',
  invoice: 'in',
  invoice_payment: 'inpay',
  invoiceitem: 'ii',
  payment_intent: 'pi',
  payment_method: 'pm',
  price: 'price',
  product: 'prod',
  refund: 're',
  setup_intent: 'seti',
  subscription: 'sub',
  subscription_schedule: 'sub_sched',
  'test_helpers.test_clock': 'clock',
  webhook_endpoint: 'we',
} as const satisfies Record<Kind, string>;

export const KINDS = Object.keys(ID_PREFIX) as readonly Kind[]; // Object.keys widens; the table above is exhaustive

const longestPrefixFirst = [...KINDS].sort((a, b) => ID_PREFIX[b].length - ID_PREFIX[a].length);

/** The kind an id belongs to by its prefix (`sub_sched_…` before `sub_…`), or null for an id of nothing we keep. */
export function kindOfId(id: string): Kind | null {
  return longestPrefixFirst.find((kind) => id.startsWith(`${ID_PREFIX[kind]}_`)) ?? null;
}

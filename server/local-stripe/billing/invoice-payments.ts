import type Stripe from 'stripe';
import { methodTypesIn } from '../bank-accounts.ts';
import { listOf } from '../list.ts';
import { createPaymentIntent } from '../payment-intent-object.ts';
import { cancelPaymentIntent } from '../payments.ts';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';
import { subscriptionOf } from './invoice-object.ts';

/** Joins a payment intent to an open invoice as its default payment, making one unless it is given. */
export function addInvoicePayment(
  world: World,
  invoice: Stripe.Invoice,
  paymentIntent: string | null,
): Stripe.InvoicePayment {
  const payment = paymentIntent ?? newPaymentIntent(world, invoice).id;
  const created: Stripe.InvoicePayment = {
    id: world.newId('invoice_payment'),
    object: 'invoice_payment',
    amount_paid: null,
    amount_requested: invoice.amount_due,
    created: world.now(idOf(invoice.test_clock)),
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { type: 'payment_intent', payment_intent: payment },
    status: 'open',
    status_transitions: { canceled_at: null, paid_at: null },
  };
  world.add('invoice_payment', created);
  world.hidden.put('payments_of_invoice', invoice.id, { ids: [...idsOf(world, invoice.id), created.id] });
  world.hidden.put('invoice_of_payment', payment, { invoice: invoice.id });
  return created;
}

/** Every payment of an invoice, oldest first. */
function paymentsOf(world: World, invoice: string): readonly Stripe.InvoicePayment[] {
  return idsOf(world, invoice).map((id) => world.get('invoice_payment', id));
}

/** The payment intent that an open invoice waits for, or null where there is none. */
export function paymentIntentOf(world: World, invoice: string): Stripe.PaymentIntent | null {
  const payment = paymentsOf(world, invoice).findLast((one) => one.status !== 'canceled');
  const id = idOf(payment?.payment.payment_intent);
  return id === null ? null : world.get('payment_intent', id);
}

/** The invoice which a payment intent pays, or null. */
export function invoiceOfPayment(world: World, paymentIntent: string): string | null {
  return world.hidden.get<{ invoice: string }>('invoice_of_payment', paymentIntent)?.invoice ?? null;
}

/** Marks the default payment paid and tells `invoice_payment.paid`. */
export function markPaymentPaid(world: World, invoice: string, now: number): void {
  const payment = paymentsOf(world, invoice).findLast((one) => one.status === 'open');
  if (!payment) return;
  const paid = world.change('invoice_payment', payment.id, {
    status: 'paid',
    amount_paid: payment.amount_requested,
    status_transitions: { ...payment.status_transitions, paid_at: now },
  });
  world.emit('invoice_payment.paid', paid);
}

/** Cancels the payments of an invoice which will not be paid by them, and their payment intents. */
export function cancelInvoicePayment(world: World, invoice: string, now: number): void {
  for (const payment of paymentsOf(world, invoice)) {
    if (payment.status !== 'open') continue;
    world.change('invoice_payment', payment.id, {
      status: 'canceled',
      status_transitions: { ...payment.status_transitions, canceled_at: now },
    });
    const intent = idOf(payment.payment.payment_intent);
    if (intent === null) continue;
    const { status } = world.get('payment_intent', intent);
    if (status === 'succeeded' || status === 'canceled' || status === 'processing') continue;
    cancelPaymentIntent(world, intent, 'void_invoice');
  }
}

/** `payments` of an invoice as `expand` shows it. */
export function paymentList(world: World, invoice: string): Stripe.ApiList<Stripe.InvoicePayment> {
  return listOf([...paymentsOf(world, invoice)], `/v1/invoice_payments?invoice=${invoice}`);
}

function newPaymentIntent(world: World, invoice: Stripe.Invoice): Stripe.PaymentIntent {
  return createPaymentIntent(world, {
    amount: invoice.amount_due,
    currency: invoice.currency,
    customer: idOf(invoice.customer),
    paymentMethodTypes: methodTypesIn(invoice.currency),
    description: paymentDescription(invoice.billing_reason, subscriptionOf(invoice) !== null),
    metadata: {},
    setupFutureUsage: subscriptionOf(invoice) === null ? null : 'off_session',
  });
}

/** What Stripe writes on the payment of an invoice. */
export function paymentDescription(
  reason: Stripe.Invoice.BillingReason | null,
  ofSubscription: boolean,
): string {
  if (reason === 'subscription_create') return 'Subscription creation';
  return ofSubscription ? 'Subscription update' : 'Payment for Invoice';
}

function idsOf(world: World, invoice: string): readonly string[] {
  return world.hidden.get<{ ids: readonly string[] }>('payments_of_invoice', invoice)?.ids ?? [];
}

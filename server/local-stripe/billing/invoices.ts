import type Stripe from 'stripe';
import { invalidRequest } from '../errors.ts';
import type { World } from '../world.ts';
import { baseUrl, clockOfCustomer, customerIfAlive, idOf } from './customers.ts';
import { placeDebits } from './debits.ts';
import { draftInvoice, type NewInvoice, subscriptionOf } from './invoice-object.ts';
import { addInvoicePayment, cancelInvoicePayment, markPaymentPaid } from './invoice-payments.ts';
import { billingSettings } from './settings.ts';

/** Stores a draft and tells `invoice.created`. Pending items among its lines are taken up, debits placed. */
export function createInvoice(world: World, given: NewInvoice): Stripe.Invoice {
  const id = given.id ?? world.newId('invoice');
  const invoice = draftInvoice(world, given, id);
  for (const { invoiceItem } of given.lines)
    if (invoiceItem !== null) world.change('invoiceitem', invoiceItem, { invoice: id });
  const pairs = given.lines.flatMap((draft, at) => {
    const line = invoice.lines.data[at];
    return line ? [{ draft, line }] : [];
  });
  if (given.subscription) placeDebits(world, given.subscription.id, id, pairs, invoice.created);
  world.add('invoice', invoice, 'invoice.created');
  const { draftSeconds } = billingSettings(world);
  if (given.autoAdvance === false || draftSeconds === 0) return invoice;
  const at = invoice.created + draftSeconds;
  return world.change('invoice', id, { automatically_finalizes_at: at });
}

/** Adds lines for pending items to a draft. */
export function addLines(world: World, id: string, lines: readonly Stripe.InvoiceLineItem[]): Stripe.Invoice {
  const invoice = world.get('invoice', id);
  const data = [...invoice.lines.data, ...lines];
  const total = data.reduce((sum, line) => sum + line.amount, 0);
  return world.change(
    'invoice',
    id,
    {
      lines: { ...invoice.lines, data },
      subtotal: total,
      subtotal_excluding_tax: total,
      total,
      total_excluding_tax: total,
      amount_due: Math.max(0, total),
      amount_remaining: Math.max(0, total),
    },
    'invoice.updated',
  );
}

/**
 * Makes a draft final: number, customer balance applied, `invoice.finalized`. Nothing due is paid at once; else
 * a payment intent waits for it (the given one where the money was already asked for).
 */
export function finalizeInvoice(
  world: World,
  id: string,
  paymentIntent: string | null = null,
): Stripe.Invoice {
  const draft = world.get('invoice', id);
  if (draft.status !== 'draft')
    throw invalidRequest("This invoice is already finalized, you can't re-finalize a non-draft invoice.");
  const customer = idOf(draft.customer);
  const now = world.now(idOf(draft.test_clock));
  const { due, starting, ending } = applyBalance(world, customer, draft.total);
  const invoice = world.change('invoice', id, {
    status: 'open',
    number: draft.number ?? nextNumber(world, customer),
    starting_balance: starting,
    ending_balance: ending,
    amount_due: due,
    amount_remaining: due,
    automatically_finalizes_at: null,
    effective_at: now,
    hosted_invoice_url: `${baseUrl(world)}/i/${id}`,
    invoice_pdf: `${baseUrl(world)}/i/${id}/pdf`,
    status_transitions: { ...draft.status_transitions, finalized_at: now },
  });
  world.emit('invoice.finalized', invoice);
  if (due === 0) return settleInvoice(world, id, 'nothing_due');
  addInvoicePayment(world, invoice, paymentIntent);
  return world.get('invoice', id);
}

/** Marks an invoice paid and tells it. Subscriptions follow by their reaction to `invoice.paid`. */
export function settleInvoice(
  world: World,
  id: string,
  how: 'payment' | 'nothing_due' | 'out_of_band',
): Stripe.Invoice {
  const open = world.get('invoice', id);
  if (open.status === 'paid') return open;
  const now = world.now(idOf(open.test_clock));
  world.forget('invoice.retry', id);
  if (how === 'payment') markPaymentPaid(world, id, now);
  if (how === 'out_of_band') cancelInvoicePayment(world, id, now);
  const invoice = world.change('invoice', id, {
    status: 'paid',
    amount_paid: how === 'nothing_due' ? 0 : open.amount_due,
    amount_remaining: 0,
    attempted: true,
    auto_advance: false,
    next_payment_attempt: null,
    ...(how === 'out_of_band' ? { amount_paid_off_stripe: open.amount_due } : {}),
    status_transitions: { ...open.status_transitions, paid_at: now },
  });
  world.emit('invoice.paid', invoice);
  if (how !== 'out_of_band') world.emit('invoice.payment_succeeded', invoice);
  return world.get('invoice', id);
}

/** Voids an open invoice. */
export function voidInvoice(world: World, id: string): Stripe.Invoice {
  const invoice = world.get('invoice', id);
  if (invoice.status !== 'open' && invoice.status !== 'uncollectible')
    throw invalidRequest(
      `You can only pass in open or uncollectible invoices. This invoice isn't open or uncollectible.`,
    );
  const now = world.now(idOf(invoice.test_clock));
  world.forget('invoice.retry', id);
  cancelInvoicePayment(world, id, now);
  const voided = world.change('invoice', id, {
    status: 'void',
    auto_advance: false,
    next_payment_attempt: null,
    status_transitions: { ...invoice.status_transitions, voided_at: now },
  });
  world.emit('invoice.voided', voided);
  return world.get('invoice', id);
}

/** Gives an open invoice up. It can still be paid. */
export function markUncollectible(world: World, id: string): Stripe.Invoice {
  const invoice = world.get('invoice', id);
  if (invoice.status !== 'open') throw invalidRequest('You can only mark open invoices as uncollectible.');
  world.forget('invoice.retry', id);
  const marked = world.change('invoice', id, {
    status: 'uncollectible',
    auto_advance: false,
    next_payment_attempt: null,
    status_transitions: {
      ...invoice.status_transitions,
      marked_uncollectible_at: world.now(idOf(invoice.test_clock)),
    },
  });
  world.emit('invoice.marked_uncollectible', marked);
  return world.get('invoice', id);
}

/** Invoices of a subscription, oldest first. */
export function invoicesOf(world: World, subscription: Stripe.Subscription): readonly Stripe.Invoice[] {
  const customer = idOf(subscription.customer);
  if (customer === null) return [];
  return world
    .ofCustomer('invoice', customer)
    .filter((invoice) => subscriptionOf(invoice) === subscription.id);
}

/** A negative balance is credit that pays; a positive one is owed on top; a negative total becomes credit. */
function applyBalance(
  world: World,
  customerId: string | null,
  total: number,
): { due: number; starting: number; ending: number } {
  const customer = customerId === null ? null : customerIfAlive(world, customerId);
  const starting = customer?.balance ?? 0;
  const owed = total + starting;
  const ending = Math.min(0, owed);
  if (customer && ending !== starting)
    world.change('customer', customer.id, { balance: ending }, 'customer.updated');
  return { due: Math.max(0, owed), starting, ending };
}

function nextNumber(world: World, customerId: string | null): string {
  const customer = customerId === null ? null : customerIfAlive(world, customerId);
  if (customer === null) return `LOCAL-${String(world.store.count('invoice')).padStart(4, '0')}`;
  const sequence = customer.next_invoice_sequence ?? 1;
  world.change('customer', customer.id, { next_invoice_sequence: sequence + 1 });
  const prefix = customer.invoice_prefix ?? customer.id.slice(-8).toUpperCase();
  return `${prefix}-${String(sequence).padStart(4, '0')}`;
}

/** Unix seconds now on the clock that governs an invoice's customer. */
export function invoiceNow(world: World, invoice: Stripe.Invoice): number {
  return world.now(clockOfCustomer(world, idOf(invoice.customer)));
}

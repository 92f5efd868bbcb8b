import type Stripe from 'stripe';
import type { z } from 'zod';
import { collectInvoice, defaultPaymentMethod } from '../billing/collect.ts';
import { idOf, livingCustomer } from '../billing/customers.ts';
import { allLines } from '../billing/first-lines.ts';
import { lineOfItem, pendingItems } from '../billing/invoice-items.ts';
import { subscriptionOf } from '../billing/invoice-object.ts';
import { paymentIntentOf, paymentList } from '../billing/invoice-payments.ts';
import {
  createInvoice,
  finalizeInvoice,
  markUncollectible,
  settleInvoice,
  voidInvoice,
} from '../billing/invoices.ts';
import { invalidRequest, StripeError } from '../errors.ts';
import type { Includes } from '../expand.ts';
import { listOf, listRoute } from '../list.ts';
import { bool, created, intBetween, mergeMetadata, oneOf, params, text } from '../params.ts';
import { resolvePaymentMethod } from '../payment-methods.ts';
import { declineError } from '../payments.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { customersMethod, unsupported } from './billing-params.ts';
import { newInvoice, payment, writable } from './invoice-params.ts';
import { previewInvoice, previewParams } from './invoice-preview.ts';

/** Invoices: made by hand or by subscriptions, previewed, paid, voided, given up. */
export const invoiceRoutes: Route[] = [
  route('POST', '/v1/invoices', newInvoice, (world, given) => create(world, given)),
  route('POST', '/v1/invoices/create_preview', previewParams, (world, given) => previewInvoice(world, given)),
  route('GET', '/v1/invoices/:id', params({}), (world, _given, id) => world.get('invoice', id, 'invoice')),
  route('POST', '/v1/invoices/:id', params(writable), (world, given, id) => update(world, id, given)),
  route('DELETE', '/v1/invoices/:id', params({}), (world, _given, id) => deleteDraft(world, id)),
  route(
    'POST',
    '/v1/invoices/:id/finalize',
    params({ auto_advance: bool.optional() }),
    (world, { auto_advance }, id) => {
      world.get('invoice', id, 'invoice');
      if (auto_advance !== undefined) world.change('invoice', id, { auto_advance });
      world.forget('invoice.finalize', id);
      return finalizeInvoice(world, id);
    },
  ),
  route('POST', '/v1/invoices/:id/pay', payment, (world, given, id) => pay(world, id, given)),
  route('POST', '/v1/invoices/:id/send', params({}), (world, _given, id) => send(world, id)),
  route('POST', '/v1/invoices/:id/void', params({}), (world, _given, id) => {
    world.get('invoice', id, 'invoice');
    return voidInvoice(world, id);
  }),
  route('POST', '/v1/invoices/:id/mark_uncollectible', params({}), (world, _given, id) => {
    world.get('invoice', id, 'invoice');
    return markUncollectible(world, id);
  }),
  route(
    'GET',
    '/v1/invoices/:id/lines',
    params({
      limit: intBetween(1, 100).optional(),
      starting_after: text.optional(),
      ...unsupported('ending_before'),
    }),
    (world, { limit = 10, starting_after }, id) => {
      const data = allLines(world, id);
      const from =
        starting_after === undefined ? 0 : data.findIndex((line) => line.id === starting_after) + 1;
      return listOf(data.slice(from, from + limit), `/v1/invoices/${id}/lines`, data.length > from + limit);
    },
  ),
  listRoute(
    'invoice',
    '/v1/invoices',
    {
      collection_method: oneOf('charge_automatically', 'send_invoice').optional(),
      customer: text.optional(),
      due_date: created.optional(),
      status: oneOf('draft', 'open', 'paid', 'uncollectible', 'void').optional(),
      subscription: text.optional(),
      ...unsupported('customer_account'),
    },
    (invoice, given) =>
      (given.collection_method === undefined || invoice.collection_method === given.collection_method) &&
      (given.customer === undefined || invoice.customer === given.customer) &&
      (given.status === undefined || invoice.status === given.status) &&
      (given.subscription === undefined || subscriptionOf(invoice) === given.subscription) &&
      (given.due_date === undefined ||
        ((invoice.due_date ?? 0) >= (given.due_date.gte ?? 0) &&
          (invoice.due_date ?? 0) <= (given.due_date.lte ?? Number.POSITIVE_INFINITY))),
  ),
];

/** What an invoice shows only when asked. */
export const invoiceIncludes: Includes = {
  'invoice.payments': (world, invoice) => paymentList(world, String(Reflect.get(invoice, 'id'))),
  'invoice.confirmation_secret': (world, invoice) => {
    const secret = paymentIntentOf(world, String(Reflect.get(invoice, 'id')))?.client_secret;
    return secret ? { client_secret: secret, type: 'payment_intent' } : null;
  },
};

function create(world: World, given: z.output<typeof newInvoice>): Stripe.Invoice {
  const customer = livingCustomer(world, given.customer);
  const subscription =
    given.subscription === undefined ? null : world.get('subscription', given.subscription, 'subscription');
  const included = given.pending_invoice_items_behavior === 'include' || subscription !== null;
  const pending = included ? pendingItems(world, customer.id, subscription?.id ?? null) : [];
  const wanted = pending.filter((item) => given.currency === undefined || item.currency === given.currency);
  const now = world.now(idOf(customer.test_clock));
  if (
    given.collection_method === 'send_invoice' &&
    given.days_until_due === undefined &&
    given.due_date === undefined
  )
    throw invalidRequest(
      'If invoice collection method is `send_invoice`, you must specify either `due_date` or `days_until_due`.',
      {
        param: 'days_until_due',
      },
    );
  const invoice = createInvoice(world, {
    customer: customer.id,
    subscription,
    reason: 'manual',
    lines: wanted.map((item) => lineOfItem(world, item)),
    currency: given.currency ?? wanted[0]?.currency ?? subscription?.currency ?? customer.currency ?? 'usd',
    period: { start: now, end: now },
    autoAdvance: given.auto_advance ?? false,
    collectionMethod: given.collection_method ?? 'charge_automatically',
    daysUntilDue: given.days_until_due ?? null,
    defaultPaymentMethod:
      given.default_payment_method === undefined
        ? null
        : customersMethod(world, given.default_payment_method, customer.id, 'default_payment_method'),
    description: given.description ?? null,
    footer: given.footer ?? null,
    metadata: mergeMetadata({}, given.metadata),
  });
  if (given.due_date !== undefined) world.change('invoice', invoice.id, { due_date: given.due_date });
  // Made by hand, an invoice keeps its hour as a draft: the caller is still at work on it.
  if (given.auto_advance === true)
    world.wake('invoice.finalize', invoice.id, now + 3600, idOf(customer.test_clock));
  return world.get('invoice', invoice.id);
}

function update(world: World, id: string, given: z.output<z.ZodObject<typeof writable>>): Stripe.Invoice {
  const invoice = world.get('invoice', id, 'invoice');
  const customer = idOf(invoice.customer) ?? '';
  const editsMoney =
    given.collection_method !== undefined ||
    given.due_date !== undefined ||
    given.days_until_due !== undefined;
  if (editsMoney && invoice.status !== 'draft')
    throw invalidRequest("Finalized invoices can't be updated in this way.", {
      code: 'invoice_not_editable',
    });
  return world.change(
    'invoice',
    id,
    {
      ...(given.auto_advance === undefined ? {} : { auto_advance: given.auto_advance }),
      ...(given.collection_method === undefined ? {} : { collection_method: given.collection_method }),
      ...(given.description === undefined ? {} : { description: given.description }),
      ...(given.footer === undefined ? {} : { footer: given.footer }),
      ...(given.due_date === undefined ? {} : { due_date: given.due_date }),
      ...(given.days_until_due === undefined
        ? {}
        : { due_date: invoice.created + given.days_until_due * 86_400 }),
      ...(given.default_payment_method === undefined
        ? {}
        : {
            default_payment_method: customersMethod(
              world,
              given.default_payment_method,
              customer,
              'default_payment_method',
            ),
          }),
      ...(given.metadata === undefined
        ? {}
        : { metadata: mergeMetadata(invoice.metadata ?? {}, given.metadata) }),
    },
    'invoice.updated',
  );
}

function deleteDraft(world: World, id: string): Stripe.DeletedInvoice {
  const invoice = world.get('invoice', id, 'invoice');
  if (invoice.status !== 'draft' || subscriptionOf(invoice) !== null)
    throw invalidRequest('You can only delete draft invoices that are not of a subscription.', {
      code: 'invoice_not_editable',
    });
  for (const item of world.ofCustomer('invoiceitem', idOf(invoice.customer) ?? ''))
    if (item.invoice === id) world.change('invoiceitem', item.id, { invoice: null });
  world.emit('invoice.deleted', invoice);
  world.store.remove('invoice', id);
  return { id, object: 'invoice', deleted: true };
}

function send(world: World, id: string): Stripe.Invoice {
  const invoice = world.get('invoice', id, 'invoice');
  const sent = invoice.status === 'draft' ? finalizeInvoice(world, id) : invoice;
  world.emit('invoice.sent', sent);
  return world.get('invoice', id);
}

/** Pays now; a draft is finalized first. A decline is 402 and what was tried stays. */
function pay(world: World, id: string, given: z.output<typeof payment>): Stripe.Invoice {
  const before = world.get('invoice', id, 'invoice');
  if (before.status === 'paid')
    throw invalidRequest('Invoice is already paid', { code: 'invoice_already_paid' });
  if (before.status === 'void')
    throw invalidRequest('Invoices with the status `void` cannot be paid.', { code: 'invoice_not_payable' });
  const invoice = before.status === 'draft' ? finalizeInvoice(world, id) : before;
  if (invoice.status === 'paid') return invoice;
  if (given.paid_out_of_band) return settleInvoice(world, id, 'out_of_band');
  const method = given.payment_method ?? defaultPaymentMethod(world, invoice);
  if (method === null)
    throw new StripeError({
      status: 402,
      type: 'invalid_request_error',
      code: 'resource_missing',
      message:
        'This customer has no attached payment source or default payment method. Please consider adding a default payment method.',
      keepsChanges: true,
    });
  const tried = collectInvoice(world, id, {
    paymentMethod: resolvePaymentMethod(world, method).id,
    offSession: given.off_session ?? true,
    automatic: false,
  });
  const intent = paymentIntentOf(world, id);
  if (tried.status === 'paid' || intent === null || intent.status === 'processing') return tried;
  if (intent.status === 'requires_action')
    throw new StripeError({
      status: 402,
      type: 'card_error',
      code: 'invoice_payment_intent_requires_action',
      message:
        'Payment for this invoice requires additional user action before it can be completed successfully.',
      extra: { payment_intent: intent },
      keepsChanges: true,
    });
  throw declineError(intent);
}

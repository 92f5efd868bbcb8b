import type Stripe from 'stripe';
import type { z } from 'zod';
import { clockOfCustomer, idOf, livingCustomer } from '../billing/customers.ts';
import { addInvoiceItem, lineOfItem } from '../billing/invoice-items.ts';
import { addLines } from '../billing/invoices.ts';
import { lineOn } from '../billing/lines.ts';
import { priceAmount, usablePrice } from '../billing/prices.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import {
  bool,
  currency,
  emptyable,
  int,
  intBetween,
  mergeMetadata,
  metadata,
  params,
  text,
  timestamp,
} from '../params.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { unsupported } from './billing-params.ts';

const writable = {
  amount: int.optional(),
  description: emptyable(text).optional(),
  discountable: bool.optional(),
  metadata: metadata.optional(),
  period: params({ start: timestamp, end: timestamp }).optional(),
  pricing: params({ price: text }).optional(),
  quantity: intBetween(0, 999_999).optional(),
  ...unsupported(
    'discounts',
    'price_data',
    'quantity_decimal',
    'tax_behavior',
    'tax_code',
    'tax_rates',
    'unit_amount_decimal',
  ),
};

const newItem = params({
  ...writable,
  currency: currency.optional(),
  customer: text,
  invoice: text.optional(),
  subscription: text.optional(),
  ...unsupported('customer_account'),
});

/** Amounts to be billed with the next invoice, or added to a draft. */
export const invoiceItemRoutes: Route[] = [
  route('POST', '/v1/invoiceitems', newItem, (world, given) => create(world, given)),
  route('GET', '/v1/invoiceitems/:id', params({}), (world, _given, id) => world.get('invoiceitem', id)),
  route('POST', '/v1/invoiceitems/:id', params(writable), (world, given, id) => update(world, id, given)),
  route('DELETE', '/v1/invoiceitems/:id', params({}), (world, _given, id) => {
    const item = mustBePending(world, id);
    world.emit('invoiceitem.deleted', item);
    world.store.remove('invoiceitem', id);
    return { id, object: 'invoiceitem', deleted: true } satisfies Stripe.DeletedInvoiceItem;
  }),
  listRoute(
    'invoiceitem',
    '/v1/invoiceitems',
    {
      customer: text.optional(),
      invoice: text.optional(),
      pending: bool.optional(),
      ...unsupported('customer_account'),
    },
    (item, given) =>
      (given.customer === undefined || item.customer === given.customer) &&
      (given.invoice === undefined || item.invoice === given.invoice) &&
      (given.pending === undefined || (item.invoice === null) === given.pending),
  ),
];

function create(world: World, given: z.output<typeof newItem>): Stripe.InvoiceItem {
  const customer = livingCustomer(world, given.customer);
  const invoice = given.invoice === undefined ? null : world.get('invoice', given.invoice, 'invoice');
  if (invoice !== null && (invoice.status !== 'draft' || idOf(invoice.customer) !== customer.id))
    throw invalidRequest('Items can be added only to draft invoices of the same customer.', {
      code: 'invoice_not_editable',
      param: 'invoice',
    });
  const price =
    given.pricing === undefined ? null : usablePrice(world, given.pricing.price, 'pricing[price]');
  const quantity = given.quantity ?? 1;
  if (price === null && given.amount === undefined)
    throw invalidRequest('Missing required param: amount.', { code: 'parameter_missing', param: 'amount' });
  if (price === null && given.currency === undefined)
    throw invalidRequest('Missing required param: currency.', {
      code: 'parameter_missing',
      param: 'currency',
    });
  const now = world.now(clockOfCustomer(world, customer.id));
  const subscription =
    given.subscription === undefined
      ? null
      : world.get('subscription', given.subscription, 'subscription').id;
  const item = addInvoiceItem(
    world,
    customer.id,
    {
      amountCents: price === null ? (given.amount ?? 0) : priceAmount(price, quantity),
      currency: price?.currency ?? given.currency ?? 'usd',
      description: given.description ?? null,
      period: given.period ?? { start: now, end: now },
      price,
      quantity,
      subscription,
      subscriptionItem: null,
      proration: false,
      credits: null,
      invoiceItem: null,
      discountable: given.discountable ?? true,
      metadata: mergeMetadata({}, given.metadata),
    },
    invoice?.id ?? null,
  );
  if (invoice !== null) addLines(world, invoice.id, [lineOn(invoice.id, lineOfItem(world, item))]);
  return item;
}

function update(world: World, id: string, given: z.output<z.ZodObject<typeof writable>>): Stripe.InvoiceItem {
  const item = mustBePending(world, id);
  const price =
    given.pricing === undefined ? null : usablePrice(world, given.pricing.price, 'pricing[price]');
  const quantity = given.quantity ?? item.quantity;
  const priceId = idOf(item.pricing?.price_details?.price);
  const priced = price ?? (priceId === null ? null : world.get('price', priceId));
  const amount = priced === null ? (given.amount ?? item.amount) : priceAmount(priced, quantity);
  return world.change('invoiceitem', id, {
    amount,
    net_amount: amount,
    quantity,
    ...(given.description === undefined ? {} : { description: given.description }),
    ...(given.discountable === undefined ? {} : { discountable: given.discountable }),
    ...(given.period === undefined ? {} : { period: given.period }),
    ...(given.metadata === undefined ? {} : { metadata: mergeMetadata(item.metadata ?? {}, given.metadata) }),
  });
}

function mustBePending(world: World, id: string): Stripe.InvoiceItem {
  const item = world.get('invoiceitem', id);
  if (item.invoice !== null)
    throw invalidRequest('This invoice item is already on an invoice and can no longer be changed.', {
      code: 'invoice_not_editable',
    });
  return item;
}

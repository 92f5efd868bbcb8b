import type Stripe from 'stripe';
import type { z } from 'zod';
import { invalidRequest, resourceMissing } from '../errors.ts';
import type { Includes } from '../expand.ts';
import { listOf, listRoute } from '../list.ts';
import {
  address,
  arrayOf,
  bool,
  emptyable,
  int,
  mergeMetadata,
  metadata,
  oneOf,
  params,
  shipping,
  text,
} from '../params.ts';
import { attachPaymentMethod } from '../payment-methods.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';

const invoiceSettings = params({
  custom_fields: emptyable(arrayOf(params({ name: text, value: text }))).optional(),
  default_payment_method: emptyable(text).optional(),
  footer: emptyable(text).optional(),
  rendering_options: emptyable(
    params({ amount_tax_display: emptyable(text).optional(), template: text.optional() }),
  ).optional(),
});

const writable = {
  address: emptyable(address).optional(),
  balance: int.optional(),
  description: emptyable(text).optional(),
  email: emptyable(text.max(512)).optional(),
  invoice_prefix: text.optional(),
  invoice_settings: invoiceSettings.optional(),
  metadata: metadata.optional(),
  name: emptyable(text).optional(),
  next_invoice_sequence: int.optional(),
  phone: emptyable(text).optional(),
  preferred_locales: arrayOf(text).optional(),
  shipping: emptyable(shipping).optional(),
  tax_exempt: emptyable(oneOf('exempt', 'none', 'reverse')).optional(),
  validate: bool.optional(),
};

type Writable = z.output<z.ZodObject<typeof writable>>;

/** Customers, and their payment methods as a list of theirs. */
export const customerRoutes: Route[] = [
  route(
    'POST',
    '/v1/customers',
    params({ ...writable, payment_method: text.optional(), test_clock: text.optional() }),
    (world, given) => createCustomer(world, given),
  ),
  route('GET', '/v1/customers/:id', params({}), (world, _given, id) => world.get('customer', id)),
  route('POST', '/v1/customers/:id', params(writable), (world, given, id) =>
    updateCustomer(world, id, given),
  ),
  route('DELETE', '/v1/customers/:id', params({}), (world, _given, id) => deleteCustomer(world, id)),
  listRoute(
    'customer',
    '/v1/customers',
    { email: text.optional(), test_clock: text.optional() },
    // Stripe leaves customers on test clocks out unless their clock is asked for.
    (customer, { email, test_clock }) =>
      !customer.deleted &&
      (email === undefined || customer.email === email) &&
      (customer.test_clock ?? undefined) === test_clock,
  ),
];

export const customerIncludes: Includes = {
  'customer.sources': (_world, customer) =>
    listOf([], `/v1/customers/${Reflect.get(customer, 'id')}/sources`),
  'customer.tax_ids': (_world, customer) =>
    listOf([], `/v1/customers/${Reflect.get(customer, 'id')}/tax_ids`),
  'customer.subscriptions': (world, customer) => {
    const id = String(Reflect.get(customer, 'id'));
    const live = world.ofCustomer('subscription', id).filter(({ status }) => status !== 'canceled');
    return listOf(live.toReversed(), `/v1/customers/${id}/subscriptions`);
  },
};

/** A customer that exists; `resource_missing` for an unknown or a deleted one, as for a parameter's value. */
export function liveCustomer(world: World, id: string, param = 'customer'): Stripe.Customer {
  const customer = world.get('customer', id, param);
  if (customer.deleted) throw resourceMissing('customer', id, param);
  return customer;
}

/** Creates a customer, attaches its payment method if one is given, and tells customer.created. */
export function createCustomer(
  world: World,
  given: Writable & { payment_method?: string | undefined; test_clock?: string | undefined },
): Stripe.Customer {
  const { test_clock = null, payment_method } = given;
  if (test_clock !== null) world.get('test_helpers.test_clock', test_clock, 'test_clock');
  const id = world.newId('customer');
  const customer: Stripe.Customer = {
    id,
    object: 'customer',
    address: given.address ?? null,
    balance: given.balance ?? 0,
    created: world.now(test_clock),
    currency: null,
    customer_account: null,
    default_source: null,
    delinquent: false,
    description: given.description ?? null,
    discount: null,
    email: given.email ?? null,
    invoice_prefix: given.invoice_prefix ?? id.slice(-8).toUpperCase(),
    invoice_settings: withInvoiceSettings(
      { custom_fields: null, default_payment_method: null, footer: null, rendering_options: null },
      // The default must be the customer's own, so it is set below, once the method is attached.
      { ...given.invoice_settings, default_payment_method: undefined },
    ),
    livemode: false,
    metadata: mergeMetadata({}, given.metadata),
    name: given.name ?? null,
    next_invoice_sequence: given.next_invoice_sequence ?? 1,
    phone: given.phone ?? null,
    preferred_locales: given.preferred_locales ?? [],
    shipping: shippingOf(given.shipping),
    tax_exempt: given.tax_exempt ?? 'none',
    test_clock,
  };
  world.add('customer', customer);
  const attached = payment_method === undefined ? null : attachPaymentMethod(world, payment_method, id).id;
  const wanted = given.invoice_settings?.default_payment_method ?? null;
  // `pm_card_visa` names a new method each time; given twice in one request it means the one just attached.
  const preferred =
    wanted === null ? null : wanted === payment_method ? attached : ownMethod(world, id, wanted);
  if (preferred !== null) {
    world.change('customer', id, {
      invoice_settings: { ...customer.invoice_settings, default_payment_method: preferred },
    });
  }
  const complete = liveCustomer(world, id);
  world.emit('customer.created', complete);
  return complete;
}

function updateCustomer(world: World, id: string, given: Writable): Stripe.Customer {
  const before = liveCustomer(world, id, 'id');
  const preferred = given.invoice_settings?.default_payment_method;
  if (typeof preferred === 'string') ownMethod(world, id, preferred);
  world.change(
    'customer',
    id,
    {
      address: given.address === undefined ? (before.address ?? null) : given.address,
      balance: given.balance ?? before.balance,
      description: given.description === undefined ? before.description : given.description,
      email: given.email === undefined ? before.email : given.email,
      invoice_prefix: given.invoice_prefix ?? before.invoice_prefix ?? null,
      invoice_settings: withInvoiceSettings(before.invoice_settings, given.invoice_settings ?? {}),
      metadata: mergeMetadata(before.metadata, given.metadata),
      name: given.name === undefined ? (before.name ?? null) : given.name,
      next_invoice_sequence: given.next_invoice_sequence ?? before.next_invoice_sequence ?? 1,
      phone: given.phone === undefined ? (before.phone ?? null) : given.phone,
      preferred_locales: given.preferred_locales ?? before.preferred_locales ?? [],
      shipping: given.shipping === undefined ? before.shipping : shippingOf(given.shipping),
      tax_exempt:
        given.tax_exempt === undefined ? (before.tax_exempt ?? 'none') : (given.tax_exempt ?? 'none'),
    },
    'customer.updated',
  );
  return liveCustomer(world, id);
}

/** Deletes a customer: what hangs on it (subscriptions, payment methods) reacts to customer.deleted. */
export function deleteCustomer(world: World, id: string): Stripe.DeletedCustomer {
  const customer = liveCustomer(world, id, 'id');
  const deleted: Stripe.DeletedCustomer = { id, object: 'customer', deleted: true };
  world.emit('customer.deleted', customer);
  world.store.put('customer', deleted);
  return deleted;
}

function withInvoiceSettings(
  before: Stripe.Customer.InvoiceSettings,
  given: NonNullable<Writable['invoice_settings']>,
): Stripe.Customer.InvoiceSettings {
  return {
    custom_fields: given.custom_fields === undefined ? before.custom_fields : given.custom_fields,
    default_payment_method:
      given.default_payment_method === undefined
        ? before.default_payment_method
        : given.default_payment_method,
    footer: given.footer === undefined ? before.footer : given.footer,
    rendering_options:
      given.rendering_options === undefined
        ? before.rendering_options
        : given.rendering_options && {
            amount_tax_display: given.rendering_options.amount_tax_display ?? null,
            template: given.rendering_options.template ?? null,
          },
  };
}

function shippingOf(given: Writable['shipping']): Stripe.Customer.Shipping | null {
  if (!given) return null;
  return { address: given.address, name: given.name, phone: given.phone ?? null };
}

function ownMethod(world: World, customer: string, id: string): string {
  const method = world.get('payment_method', id, 'invoice_settings[default_payment_method]');
  if (method.customer === customer) return id;
  throw invalidRequest(
    `The customer does not have a payment method with the ID ${id}. The payment method must be attached to the customer.`,
    { code: 'resource_missing', param: 'invoice_settings[default_payment_method]' },
  );
}

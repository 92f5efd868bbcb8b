import type Stripe from 'stripe';
import type { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import { address, emptyable, int, mergeMetadata, metadata, oneOf, params, text } from '../params.ts';
import {
  attachPaymentMethod,
  createTestPaymentMethod,
  detachPaymentMethod,
  resolvePaymentMethod,
} from '../payment-methods.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';
import { unsupported } from './billing-params.ts';
import { liveCustomer } from './customers.ts';

const billingDetails = params({
  address: emptyable(address).optional(),
  email: emptyable(text).optional(),
  name: emptyable(text).optional(),
  phone: emptyable(text).optional(),
  tax_id: emptyable(text).optional(),
});

const newPaymentMethod = params({
  type: oneOf('card', 'sepa_debit', 'us_bank_account'),
  card: params({
    token: text.optional(),
    number: text.optional(),
    exp_month: int.optional(),
    exp_year: int.optional(),
    cvc: text.optional(),
  }).optional(),
  sepa_debit: params({ iban: text }).optional(),
  us_bank_account: params({
    account_holder_type: oneOf('company', 'individual').optional(),
    account_number: text,
    account_type: oneOf('checking', 'savings').optional(),
    routing_number: text,
    ...unsupported('financial_connections_account'),
  }).optional(),
  billing_details: billingDetails.optional(),
  metadata: metadata.optional(),
});

/** What a payment method is made from, as `payment_method_data` of other requests too. */
export const paymentMethodData = newPaymentMethod;

const ofCustomer = listRoute(
  'payment_method',
  '/v1/customers/:id/payment_methods',
  { type: text.optional(), allow_redisplay: text.optional() },
  (method, { type, allow_redisplay }, { id }) =>
    method.customer === id &&
    (type === undefined || method.type === type) &&
    (allow_redisplay === undefined || method.allow_redisplay === allow_redisplay),
);

/** Payment methods: cards by token or number, and bank debits. */
export const paymentMethodRoutes: Route[] = [
  route('POST', '/v1/payment_methods', newPaymentMethod, (world, given) => createPaymentMethod(world, given)),
  route('GET', '/v1/payment_methods/:id', params({}), (world, _given, id) =>
    // Reading `pm_card_visa` shows what the alias stands for, as Stripe does in test mode.
    resolvePaymentMethod(world, id, 'id'),
  ),
  route(
    'POST',
    '/v1/payment_methods/:id',
    params({
      allow_redisplay: oneOf('always', 'limited', 'unspecified').optional(),
      billing_details: billingDetails.optional(),
      card: params({ exp_month: int.optional(), exp_year: int.optional() }).optional(),
      metadata: metadata.optional(),
    }),
    (world, given, id) => {
      const before = world.get('payment_method', id);
      const { card } = before;
      return world.change(
        'payment_method',
        id,
        {
          allow_redisplay: given.allow_redisplay ?? before.allow_redisplay ?? 'unspecified',
          billing_details: { ...before.billing_details, ...billingDetailsOf(given.billing_details) },
          metadata: mergeMetadata(before.metadata ?? {}, given.metadata),
          ...(card && given.card
            ? {
                card: {
                  ...card,
                  exp_month: given.card.exp_month ?? card.exp_month,
                  exp_year: given.card.exp_year ?? card.exp_year,
                },
              }
            : {}),
        },
        'payment_method.updated',
      );
    },
  ),
  route('POST', '/v1/payment_methods/:id/attach', params({ customer: text }), (world, { customer }, id) =>
    attachPaymentMethod(world, id, customer, 'id'),
  ),
  route('POST', '/v1/payment_methods/:id/detach', params({}), (world, _given, id) =>
    detachPaymentMethod(world, id),
  ),
  listRoute(
    'payment_method',
    '/v1/payment_methods',
    { customer: text.optional(), type: text.optional(), allow_redisplay: text.optional() },
    (method, { customer, type, allow_redisplay }) =>
      (customer === undefined ? method.customer !== null : method.customer === customer) &&
      (type === undefined || method.type === type) &&
      (allow_redisplay === undefined || method.allow_redisplay === allow_redisplay),
  ),
  {
    ...ofCustomer,
    run(world, call) {
      liveCustomer(world, call.id, 'customer');
      return ofCustomer.run(world, call);
    },
  },
];

/** Makes a payment method from a request's parameters. */
export function createPaymentMethod(
  world: World,
  given: z.output<typeof newPaymentMethod>,
): Stripe.PaymentMethod {
  const details = billingDetailsOf(given.billing_details);
  if (given.type === 'sepa_debit') {
    if (!given.sepa_debit) throw missing('sepa_debit[iban]');
    return createTestPaymentMethod(world, { iban: given.sepa_debit.iban }, details, given.metadata);
  }
  if (given.type === 'us_bank_account') {
    const account = given.us_bank_account;
    if (!account) throw missing('us_bank_account[account_number]');
    const usAccount = {
      routingNumber: account.routing_number,
      accountNumber: account.account_number,
      holderType: account.account_holder_type ?? 'individual',
      accountType: account.account_type ?? 'checking',
    };
    return createTestPaymentMethod(world, { usAccount }, details, given.metadata);
  }
  const { token, number, exp_month: expMonth, exp_year: expYear, cvc } = given.card ?? {};
  if (token !== undefined) return createTestPaymentMethod(world, { token }, details, given.metadata);
  if (number === undefined) throw missing('card[number]');
  if (expMonth === undefined) throw missing('card[exp_month]');
  if (expYear === undefined) throw missing('card[exp_year]');
  return createTestPaymentMethod(
    world,
    { card: { number, expMonth, expYear, cvc } },
    details,
    given.metadata,
  );
}

function billingDetailsOf(
  given: z.output<typeof billingDetails> | undefined,
): Partial<Stripe.PaymentMethod.BillingDetails> {
  const details: Partial<Stripe.PaymentMethod.BillingDetails> = {};
  if (given?.address !== undefined) details.address = given.address;
  if (given?.email !== undefined) details.email = given.email;
  if (given?.name !== undefined) details.name = given.name;
  if (given?.phone !== undefined) details.phone = given.phone;
  if (given?.tax_id !== undefined) details.tax_id = given.tax_id;
  return details;
}

function missing(param: string): Error {
  return invalidRequest(`Missing required param: ${param}.`, { code: 'parameter_missing', param });
}

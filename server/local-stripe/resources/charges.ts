import type { Includes } from '../expand.ts';
import { listOf, listRoute } from '../list.ts';
import { emptyable, mergeMetadata, metadata, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';

/** Charges are made by payment intents; here they are read, and their notes changed. */
export const chargeRoutes: Route[] = [
  route('GET', '/v1/charges/:id', params({}), (world, _given, id) => world.get('charge', id)),
  route(
    'POST',
    '/v1/charges/:id',
    params({
      description: emptyable(text).optional(),
      metadata: metadata.optional(),
      receipt_email: emptyable(text).optional(),
    }),
    (world, given, id) => {
      const before = world.get('charge', id);
      return world.change(
        'charge',
        id,
        {
          description: given.description === undefined ? before.description : given.description,
          metadata: mergeMetadata(before.metadata, given.metadata),
          receipt_email: given.receipt_email === undefined ? before.receipt_email : given.receipt_email,
        },
        'charge.updated',
      );
    },
  ),
  listRoute(
    'charge',
    '/v1/charges',
    { customer: text.optional(), payment_intent: text.optional() },
    (charge, { customer, payment_intent }) =>
      (customer === undefined || charge.customer === customer) &&
      (payment_intent === undefined || charge.payment_intent === payment_intent),
  ),
  route('GET', '/v1/balance_transactions/:id', params({}), (world, _given, id) =>
    world.get('balance_transaction', id),
  ),
  listRoute(
    'balance_transaction',
    '/v1/balance_transactions',
    { source: text.optional(), type: text.optional(), currency: text.optional() },
    (movement, { source, type, currency }) =>
      (source === undefined || movement.source === source) &&
      (type === undefined || movement.type === type) &&
      (currency === undefined || movement.currency === currency),
  ),
];

export const chargeIncludes: Includes = {
  'charge.refunds': (world, charge) => {
    const id = Reflect.get(charge, 'id');
    const refunds = [...world.newestFirst('refund')].filter((refund) => refund.charge === id);
    return listOf(refunds, `/v1/charges/${String(id)}/refunds`);
  },
};

import { listRoute } from '../list.ts';
import { emptyable, int, mergeMetadata, metadata, oneOf, params, text } from '../params.ts';
import { createRefund } from '../refunds.ts';
import { type Route, route } from '../route.ts';

/** Refunds, full and partial. */
export const refundRoutes: Route[] = [
  route(
    'POST',
    '/v1/refunds',
    params({
      amount: int.optional(),
      charge: text.optional(),
      metadata: metadata.optional(),
      payment_intent: text.optional(),
      reason: emptyable(oneOf('duplicate', 'fraudulent', 'requested_by_customer')).optional(),
    }),
    (world, given) =>
      createRefund(world, {
        charge: given.charge,
        paymentIntent: given.payment_intent,
        amount: given.amount,
        reason: given.reason,
        metadata: mergeMetadata({}, given.metadata),
      }),
  ),
  route('GET', '/v1/refunds/:id', params({}), (world, _given, id) => world.get('refund', id)),
  route('POST', '/v1/refunds/:id', params({ metadata: metadata.optional() }), (world, given, id) => {
    const before = world.get('refund', id);
    return world.change(
      'refund',
      id,
      { metadata: mergeMetadata(before.metadata ?? {}, given.metadata) },
      'refund.updated',
    );
  }),
  listRoute(
    'refund',
    '/v1/refunds',
    { charge: text.optional(), payment_intent: text.optional() },
    (refund, { charge, payment_intent }) =>
      (charge === undefined || refund.charge === charge) &&
      (payment_intent === undefined || refund.payment_intent === payment_intent),
  ),
];

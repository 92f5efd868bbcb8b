import { idOf } from '../billing/customers.ts';

import { listRoute } from '../list.ts';
import { oneOf, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';

/** Which payments belong to which invoices. */
export const invoicePaymentRoutes: Route[] = [
  route('GET', '/v1/invoice_payments/:id', params({}), (world, _given, id) =>
    world.get('invoice_payment', id),
  ),
  listRoute(
    'invoice_payment',
    '/v1/invoice_payments',
    {
      invoice: text.optional(),
      payment: params({
        type: oneOf('payment_intent', 'charge', 'payment_record'),
        payment_intent: text.optional(),
        charge: text.optional(),
        payment_record: text.optional(),
      }).optional(),
      status: oneOf('open', 'paid', 'canceled').optional(),
    },
    (payment, given) =>
      (given.invoice === undefined || payment.invoice === given.invoice) &&
      (given.status === undefined || payment.status === given.status) &&
      (given.payment === undefined ||
        (given.payment.type === payment.payment.type &&
          (given.payment.payment_intent === undefined ||
            idOf(payment.payment.payment_intent) === given.payment.payment_intent))),
  ),
];

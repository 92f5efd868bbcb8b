import type Stripe from 'stripe';
import { checkoutDetails } from '../checkout/details.ts';
import { payCheckoutSession } from '../checkout/pay.ts';
import { invalidRequest } from '../errors.ts';
import { int, params, text } from '../params.ts';
import { declineError } from '../payments.ts';
import { type Route, route } from '../route.ts';
import type { World } from '../world.ts';

/** The unpublished routes behind Stripe's hosted page, as far as its CLI pays sessions with them. */
export const paymentPageRoutes: Route[] = [
  route('GET', '/v1/payment_pages/:id', params({}), (world, _given, id) => page(world, id)),
  route(
    'POST',
    '/v1/payment_pages/:id/confirm',
    params({ payment_method: text, expected_amount: int.optional() }),
    (world, given, id) => {
      const session = world.get('checkout.session', id, 'session');
      if (given.expected_amount !== undefined && given.expected_amount !== session.amount_total)
        throw invalidRequest(
          `The amount to pay is ${session.amount_total}, not the expected ${given.expected_amount}.`,
          { code: 'checkout_amount_mismatch', param: 'expected_amount' },
        );
      const result = payCheckoutSession(world, id, { paymentMethod: given.payment_method, email: null });
      const intent = checkoutDetails(world, id).paymentIntent;
      if (result.outcome === 'declined' && intent !== null)
        throw declineError(world.get('payment_intent', intent));
      return page(world, id);
    },
  ),
];

function page(world: World, id: string): Stripe.Checkout.Session & { session_id: string; state: string } {
  const session = world.get('checkout.session', id, 'session');
  const state =
    session.status === 'complete' ? 'succeeded' : session.status === 'expired' ? 'expired' : 'active';
  return { ...session, session_id: id, state };
}

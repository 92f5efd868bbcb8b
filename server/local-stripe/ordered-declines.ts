import type Stripe from 'stripe';
import type { DeclineName } from './cards.ts';
import type { World } from './world.ts';

/** Orders the bank to decline this customer's next payments, whatever the card. */
export function declineNextPayments(
  world: World,
  customer: string,
  decline: DeclineName,
  times: number,
): void {
  world.hidden.put('decline_next', customer, { decline, times });
}

/** Takes one ordered decline of this customer; null where none is left. */
export function declineOrdered(world: World, customer: Stripe.PaymentIntent['customer']): DeclineName | null {
  if (typeof customer !== 'string') return null;
  const order = world.hidden.get<{ decline: DeclineName; times: number }>('decline_next', customer);
  if (order === undefined) return null;
  if (order.times > 1) world.hidden.put('decline_next', customer, { ...order, times: order.times - 1 });
  else world.hidden.remove('decline_next', customer);
  return order.decline;
}

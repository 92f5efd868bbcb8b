import type Stripe from 'stripe';
import { moveBalance } from './charges.ts';
import { invalidRequest } from './errors.ts';
import type { World } from './world.ts';

export interface NewRefund {
  readonly charge?: string | undefined;
  readonly paymentIntent?: string | undefined;
  /** Minor units; what is left of the charge when absent. */
  readonly amount?: number | undefined;
  readonly reason?: Stripe.Refund.Reason | null | undefined;
  readonly metadata?: Stripe.Metadata | undefined;
}

/**
 * Gives money back, in whole or in part; tells refund.created and charge.refunded. Throws 400 for more than is
 * left, for a charge that was not paid, and for one that is disputed.
 */
export function createRefund(world: World, given: NewRefund): Stripe.Refund {
  const charge = chargeOf(world, given);
  const left = charge.amount - charge.amount_refunded;
  const amount = given.amount ?? left;
  if (!charge.paid) throw invalidRequest(`Charge ${charge.id} was not paid, so it cannot be refunded.`);
  if (left === 0)
    throw invalidRequest(`Charge ${charge.id} has already been refunded.`, {
      code: 'charge_already_refunded',
    });
  if (charge.disputed)
    throw invalidRequest(`Charge ${charge.id} has been charged back; cannot issue a refund.`, {
      code: 'charge_disputed',
    });
  if (amount <= 0)
    throw invalidRequest('This value must be greater than or equal to 1.', {
      code: 'parameter_invalid_integer',
      param: 'amount',
    });
  if (amount > left) {
    throw invalidRequest(
      `Refund amount (${amount}) is greater than unrefunded amount on charge (${left}), both in minor units.`,
      { param: 'amount' },
    );
  }
  const id = world.newId('refund');
  const { currency, customer, payment_intent, payment_method } = charge;
  const movement = moveBalance(world, {
    source: id,
    type: 'refund',
    reportingCategory: 'refund',
    amount: -amount,
    fee: 0,
    currency,
    description: 'REFUND FOR CHARGE',
  });
  const refund = world.add(
    'refund',
    {
      id,
      object: 'refund',
      amount,
      balance_transaction: movement.id,
      charge: charge.id,
      created: world.now(),
      currency,
      customer,
      customer_account: null,
      destination_details: {
        type: 'card',
        card: { reference_status: 'pending', reference_type: 'acquirer_reference_number', type: 'refund' },
      },
      metadata: given.metadata ?? {},
      payment_intent,
      payment_method,
      reason: given.reason ?? null,
      receipt_number: null,
      source_transfer_reversal: null,
      status: 'succeeded',
      transfer_reversal: null,
    },
    'refund.created',
  );
  const refunded = charge.amount_refunded + amount;
  world.change(
    'charge',
    charge.id,
    { amount_refunded: refunded, refunded: refunded === charge.amount },
    'charge.refunded',
  );
  return refund;
}

/** A refund the bank could not carry out: the money comes back; tells refund.updated and refund.failed. */
export function failRefund(world: World, id: string): Stripe.Refund {
  const refund = world.get('refund', id);
  if (refund.status !== 'succeeded' || typeof refund.charge !== 'string')
    throw invalidRequest(`Refund ${id} is ${refund.status}, so it cannot fail any more.`);
  const movement = moveBalance(world, {
    source: id,
    type: 'refund',
    reportingCategory: 'refund_failure',
    amount: refund.amount,
    fee: 0,
    currency: refund.currency,
    description: 'REFUND FAILURE',
  });
  const failed = world.change(
    'refund',
    id,
    { status: 'failed', failure_reason: 'unknown', failure_balance_transaction: movement.id },
    'refund.updated',
  );
  world.emit('refund.failed', failed);
  const charge = world.get('charge', refund.charge);
  world.change(
    'charge',
    charge.id,
    { amount_refunded: charge.amount_refunded - refund.amount, refunded: false },
    'charge.updated',
  );
  return failed;
}

function chargeOf(world: World, given: NewRefund): Stripe.Charge {
  if (given.charge !== undefined) return world.get('charge', given.charge, 'charge');
  if (given.paymentIntent === undefined) {
    throw invalidRequest(
      'One of the following params should be provided for this request: payment_intent or charge.',
      {
        code: 'parameter_missing',
        param: 'payment_intent',
      },
    );
  }
  const intent = world.get('payment_intent', given.paymentIntent, 'payment_intent');
  if (typeof intent.latest_charge !== 'string')
    throw invalidRequest(`This PaymentIntent (${intent.id}) does not have a successful charge to refund.`, {
      param: 'payment_intent',
    });
  return world.get('charge', intent.latest_charge);
}

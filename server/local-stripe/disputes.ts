import type Stripe from 'stripe';
import { moveBalance } from './charges.ts';
import { invalidRequest } from './errors.ts';
import type { World } from './world.ts';

const FEE_CENTS = 1500;

/**
 * The customer's bank takes a payment back, 15.00 of fee included; tells charge.dispute.created and
 * .funds_withdrawn. Throws 400 for a charge that was not paid or is disputed already.
 */
export function openDispute(
  world: World,
  chargeId: string,
  given: { readonly reason?: string; readonly amount?: number } = {},
): Stripe.Dispute {
  const charge = world.get('charge', chargeId, 'charge');
  if (!charge.paid || charge.disputed)
    throw invalidRequest(`Charge ${charge.id} ${charge.paid ? 'is disputed already' : 'was not paid'}.`);
  const { reason = 'fraudulent', amount = charge.amount - charge.amount_refunded } = given;
  if (amount <= 0 || amount > charge.amount)
    throw invalidRequest('A dispute is about an amount between 1 and that of the charge.', {
      param: 'amount',
    });
  const id = world.newId('dispute');
  const now = world.now();
  const brand = charge.payment_method_details?.card?.brand;
  const opened: Stripe.Dispute = {
    id,
    object: 'dispute',
    amount,
    balance_transactions: [],
    charge: charge.id,
    created: now,
    currency: charge.currency,
    enhanced_eligibility_types: [],
    evidence: noEvidence(),
    evidence_details: {
      due_by: now + 9 * 86_400,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: 'not_submitted',
    },
    intended_submission_method: null,
    is_charge_refundable: false,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    ...(brand
      ? {
          payment_method_details: {
            type: 'card',
            card: { brand, case_type: 'chargeback', network: brand, network_reason_code: '10.4' },
          },
        }
      : {}),
    reason,
    status: 'needs_response',
  };
  world.change('charge', charge.id, { disputed: true });
  world.add('dispute', opened, 'charge.dispute.created');
  return move(world, opened, -amount, FEE_CENTS, 'charge.dispute.funds_withdrawn');
}

/** The bank decides. Won: the money comes back, told as .funds_reinstated; both tell charge.dispute.closed. */
export function closeDispute(world: World, id: string, outcome: 'won' | 'lost'): Stripe.Dispute {
  const dispute = world.get('dispute', id);
  if (dispute.status === 'won' || dispute.status === 'lost')
    throw invalidRequest(`Dispute ${id} is closed already: it was ${dispute.status}.`);
  const closed = world.change('dispute', id, { status: outcome });
  world.emit('charge.dispute.closed', closed);
  return outcome === 'won'
    ? move(world, closed, closed.amount, -FEE_CENTS, 'charge.dispute.funds_reinstated')
    : closed;
}

function move(
  world: World,
  dispute: Stripe.Dispute,
  amount: number,
  fee: number,
  event: 'charge.dispute.funds_withdrawn' | 'charge.dispute.funds_reinstated',
): Stripe.Dispute {
  const movement = moveBalance(world, {
    source: dispute.id,
    type: 'adjustment',
    reportingCategory: amount < 0 ? 'dispute' : 'dispute_reversal',
    amount,
    fee,
    currency: dispute.currency,
    description:
      amount < 0
        ? `Chargeback withdrawal for ${dispute.charge}`
        : `Chargeback reversal for ${dispute.charge}`,
  });
  const after = world.change('dispute', dispute.id, {
    balance_transactions: [...dispute.balance_transactions, movement],
  });
  world.emit(event, after);
  return after;
}

function noEvidence(): Stripe.Dispute.Evidence {
  return {
    access_activity_log: null,
    billing_address: null,
    cancellation_policy: null,
    cancellation_policy_disclosure: null,
    cancellation_rebuttal: null,
    customer_communication: null,
    customer_email_address: null,
    customer_name: null,
    customer_purchase_ip: null,
    customer_signature: null,
    duplicate_charge_documentation: null,
    duplicate_charge_explanation: null,
    duplicate_charge_id: null,
    enhanced_evidence: {},
    product_description: null,
    receipt: null,
    refund_policy: null,
    refund_policy_disclosure: null,
    refund_refusal_explanation: null,
    service_date: null,
    service_documentation: null,
    shipping_address: null,
    shipping_carrier: null,
    shipping_date: null,
    shipping_documentation: null,
    shipping_tracking_number: null,
    uncategorized_file: null,
    uncategorized_text: null,
  };
}

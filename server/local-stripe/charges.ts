import type Stripe from 'stripe';
import { DECLINES, type DeclineName } from './cards.ts';
import type { World } from './world.ts';

export type ChargeOutcome =
  | { readonly status: 'succeeded' }
  | { readonly status: 'pending' }
  | { readonly status: 'failed'; readonly decline: DeclineName };

/** Records one attempt to move the money of a payment intent; tells charge.succeeded, .pending or .failed. */
export function createCharge(
  world: World,
  intent: Stripe.PaymentIntent,
  method: Stripe.PaymentMethod,
  outcome: ChargeOutcome,
  threeDSecure: 'authenticated' | null = null,
): Stripe.Charge {
  const id = world.newId('charge');
  const paid = outcome.status === 'succeeded';
  const failed = outcome.status === 'failed' ? { name: outcome.decline, ...DECLINES[outcome.decline] } : null;
  const charge: Stripe.Charge = {
    id,
    object: 'charge',
    amount: intent.amount,
    amount_captured: failed ? 0 : intent.amount,
    amount_refunded: 0,
    application: null,
    application_fee: null,
    application_fee_amount: null,
    balance_transaction: paid ? credit(world, id, intent) : null,
    billing_details: method.billing_details,
    calculated_statement_descriptor: 'LOCAL STRIPE',
    captured: !failed,
    created: world.now(clockOfCustomer(world, intent.customer)),
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    disputed: false,
    failure_balance_transaction: null,
    failure_code: failed?.code ?? null,
    failure_message: failed?.message ?? null,
    fraud_details: {},
    livemode: false,
    metadata: intent.metadata,
    on_behalf_of: null,
    outcome: {
      advice_code: failed ? 'try_again_later' : null,
      network_advice_code: null,
      network_decline_code: null,
      network_status: failed ? 'declined_by_network' : 'approved_by_network',
      reason: failed?.name ?? null,
      risk_level: 'normal',
      risk_score: 17,
      seller_message: failed
        ? 'The bank did not return any further details with this decline.'
        : 'Payment complete.',
      type: failed ? 'issuer_declined' : 'authorized',
    },
    paid,
    payment_intent: intent.id,
    payment_method: method.id,
    payment_method_details: methodDetails(method, intent.amount, threeDSecure, failed === null),
    radar_options: {},
    receipt_email: intent.receipt_email,
    receipt_number: null,
    receipt_url: null,
    refunded: false,
    review: null,
    shipping: intent.shipping,
    source: null,
    source_transfer: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: outcome.status,
    transfer_data: null,
    transfer_group: null,
  };
  return world.add('charge', charge, `charge.${outcome.status}`);
}

/** A pending charge (a bank debit) turns out well or not; tells charge.succeeded or charge.failed. */
export function settleCharge(world: World, id: string, outcome: 'succeed' | 'fail'): Stripe.Charge {
  const pending = world.get('charge', id);
  if (outcome === 'succeed') {
    const settled = world.change('charge', id, {
      status: 'succeeded',
      paid: true,
      balance_transaction: credit(world, id, pending),
    });
    world.emit('charge.succeeded', settled);
    return settled;
  }
  const failed = world.change('charge', id, {
    status: 'failed',
    captured: false,
    amount_captured: 0,
    failure_code: 'insufficient_funds',
    failure_message: 'The customer’s account has insufficient funds to cover this payment.',
  });
  world.emit('charge.failed', failed);
  return failed;
}

/** Writes a movement of the balance and answers its id. Amounts in minor units, negative when money leaves. */
export function moveBalance(
  world: World,
  movement: {
    source: string;
    type: 'charge' | 'payment' | 'refund' | 'adjustment';
    reportingCategory: string;
    amount: number;
    fee: number;
    currency: string;
    description: string | null;
  },
): Stripe.BalanceTransaction {
  const { source, type, reportingCategory, amount, fee, currency, description } = movement;
  const now = world.now();
  return world.add('balance_transaction', {
    id: world.newId('balance_transaction'),
    object: 'balance_transaction',
    amount,
    available_on: now + 2 * 86_400,
    balance_type: 'payments',
    created: now,
    currency,
    description,
    exchange_rate: null,
    fee,
    fee_details:
      fee === 0
        ? []
        : [
            {
              amount: fee,
              application: null,
              currency,
              description: 'Stripe processing fees',
              type: 'stripe_fee',
            },
          ],
    net: amount - fee,
    reporting_category: reportingCategory,
    source,
    status: 'pending',
    type,
  });
}

/** The test clock of a payment's customer, or null. */
export function clockOfCustomer(world: World, customer: Stripe.Charge['customer']): string | null {
  const owner = typeof customer === 'string' ? world.find('customer', customer) : undefined;
  return owner && !owner.deleted && typeof owner.test_clock === 'string' ? owner.test_clock : null;
}

function credit(
  world: World,
  source: string,
  payment: { amount: number; currency: string; description: string | null },
): string {
  const { amount, currency, description } = payment;
  // 2.9 % and 30 cents, Stripe's commonest price, so that net amounts look real.
  const fee = Math.min(amount, Math.round(amount * 0.029) + 30);
  return moveBalance(world, {
    source,
    type: 'charge',
    reportingCategory: 'charge',
    amount,
    fee,
    currency,
    description,
  }).id;
}

function methodDetails(
  method: Stripe.PaymentMethod,
  amount: number,
  threeDSecure: 'authenticated' | null,
  approved: boolean,
): Stripe.Charge.PaymentMethodDetails {
  const { card, sepa_debit: sepa, us_bank_account: account } = method;
  if (sepa) {
    const { bank_code, branch_code, country, fingerprint, last4 } = sepa;
    return {
      type: 'sepa_debit',
      sepa_debit: { bank_code, branch_code, country, fingerprint, last4, mandate: null },
    };
  }
  if (account) {
    const { account_holder_type, account_type, bank_name, fingerprint, last4, routing_number } = account;
    return {
      type: 'us_bank_account',
      us_bank_account: {
        account_holder_type,
        account_type,
        bank_name,
        fingerprint,
        last4,
        payment_reference: null,
        routing_number,
      },
    };
  }
  if (!card) return { type: method.type };
  return {
    type: 'card',
    card: {
      amount_authorized: approved ? amount : null,
      authorization_code: approved ? '123456' : null,
      brand: card.brand,
      checks: card.checks,
      country: card.country,
      electronic_commerce_indicator: threeDSecure ? '05' : null,
      exp_month: card.exp_month,
      exp_year: card.exp_year,
      fingerprint: card.fingerprint ?? null,
      funding: card.funding,
      installments: null,
      last4: card.last4,
      mandate: null,
      network: card.brand,
      network_transaction_id: null,
      regulated_status: card.regulated_status,
      three_d_secure: threeDSecure
        ? {
            authentication_flow: 'challenge',
            electronic_commerce_indicator: '05',
            exemption_indicator: null,
            result: 'authenticated',
            result_reason: null,
            transaction_id: null,
            version: '2.2.0',
          }
        : null,
      transaction_link_id: null,
      wallet: null,
    },
  };
}

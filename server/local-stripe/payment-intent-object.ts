import type Stripe from 'stripe';
import { clockOfCustomer } from './charges.ts';
import type { World } from './world.ts';

export interface NewPaymentIntent {
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  readonly customer: string | null;
  readonly paymentMethodTypes: readonly string[];
  readonly description: string | null;
  readonly metadata: Stripe.Metadata;
  readonly setupFutureUsage: 'off_session' | 'on_session' | null;
  readonly shipping?: Stripe.PaymentIntent.Shipping | null;
  readonly receiptEmail?: string | null;
  readonly automaticPaymentMethods?: boolean;
  readonly allowedPaymentMethodTypes?: readonly string[] | null;
}

/** Creates an intent to pay, not yet confirmed; tells payment_intent.created. */
export function createPaymentIntent(world: World, given: NewPaymentIntent): Stripe.PaymentIntent {
  const id = world.newId('payment_intent');
  return world.add(
    'payment_intent',
    {
      id,
      object: 'payment_intent',
      allowed_payment_method_types: given.allowedPaymentMethodTypes
        ? [...given.allowedPaymentMethodTypes]
        : null,
      amount: given.amount,
      amount_capturable: 0,
      amount_details: {},
      amount_received: 0,
      application: null,
      application_fee_amount: null,
      automatic_payment_methods: given.automaticPaymentMethods
        ? { allow_redirects: 'always', enabled: true }
        : null,
      canceled_at: null,
      cancellation_reason: null,
      capture_method: 'automatic_async',
      client_secret: `${id}_secret_${world.newId('payment_intent').slice(3)}`,
      confirmation_method: 'automatic',
      created: world.now(clockOfCustomer(world, given.customer)),
      currency: given.currency,
      customer: given.customer,
      customer_account: null,
      description: given.description,
      excluded_payment_method_types: null,
      last_payment_error: null,
      latest_charge: null,
      livemode: false,
      managed_payments: null,
      metadata: given.metadata,
      next_action: null,
      on_behalf_of: null,
      payment_method: null,
      payment_method_configuration_details: null,
      payment_method_options: {
        card: {
          installments: null,
          mandate_options: null,
          network: null,
          request_three_d_secure: 'automatic',
        },
      },
      payment_method_types: [...given.paymentMethodTypes],
      payment_record: null,
      processing: null,
      receipt_email: given.receiptEmail ?? null,
      review: null,
      setup_future_usage: given.setupFutureUsage,
      shipping: given.shipping ?? null,
      source: null,
      statement_descriptor: null,
      statement_descriptor_suffix: null,
      status: 'requires_payment_method',
      transfer_data: null,
      transfer_group: null,
    },
    'payment_intent.created',
  );
}

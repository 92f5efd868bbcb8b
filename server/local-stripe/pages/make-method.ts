import type Stripe from 'stripe';
import { createTestPaymentMethod } from '../payment-methods.ts';
import type { World } from '../world.ts';
import { compact, type TypedMethod } from './payment-form.ts';

/** Makes the payment method that was typed and checked; throws a StripeError for a card that is no test card. */
export function makeMethod(
  world: World,
  typed: TypedMethod,
  billing: Partial<Stripe.PaymentMethod.BillingDetails>,
): Stripe.PaymentMethod {
  if (typed.method === 'sepa_debit')
    return createTestPaymentMethod(world, { iban: compact(typed.iban) }, billing);
  if (typed.method === 'us_bank_account') {
    const usAccount = {
      routingNumber: compact(typed.routing),
      accountNumber: compact(typed.account),
      holderType: 'individual',
      accountType: 'checking',
    } as const;
    return createTestPaymentMethod(world, { usAccount }, billing);
  }
  const [month, year] = typed.expiry.split('/').map((part) => Number(part.trim()));
  return createTestPaymentMethod(
    world,
    {
      card: {
        number: compact(typed.number),
        expMonth: month ?? 0,
        expYear: 2000 + ((year ?? 0) % 100),
        cvc: typed.cvc,
      },
    },
    billing,
  );
}

import type Stripe from 'stripe';
import { z } from 'zod';
import { formatId } from '../../shared/ids.ts';

const metadata = z.strictObject({
  driftstack_account_id: z.string(),
  driftstack_attempt_id: z.string(),
  driftstack_kind: z.enum(['subscription', 'trial_pack']),
});

const common = {
  customer: z.string(),
  client_reference_id: z.string(),
  line_items: z.tuple([z.strictObject({ price: z.string(), quantity: z.literal(1) })]),
  success_url: z.string(),
  cancel_url: z.string(),
  /** Of attempts of an earlier version. Stripe's own clock gives a session 24 hours, whatever ours says. */
  expires_at: z.int().exactOptional(),
  metadata,
};

/**
 * What Stripe is sent to create a session. Stripe compares every repetition with the first one, so it is stored
 * and always read through this schema, which also restores the order of the members that jsonb does not keep.
 */
export const sessionParams = z.discriminatedUnion('mode', [
  z.strictObject({
    mode: z.literal('subscription'),
    ...common,
    subscription_data: z.strictObject({ metadata }),
  }),
  z.strictObject({
    mode: z.literal('payment'),
    ...common,
    payment_intent_data: z.strictObject({ metadata }),
  }),
]) satisfies z.ZodType<Stripe.Checkout.SessionCreateParams>;
export type SessionParams = z.infer<typeof sessionParams>;

export type SessionOrder = {
  kind: 'subscription' | 'trial_pack';
  accountId: string;
  attemptId: string;
  price: string;
  successUrl: string;
  cancelUrl: string;
};

type WithoutCustomer<T> = T extends unknown ? Omit<T, 'customer'> : never;

/**
 * All but the customer, who is put in where the account's row is locked. It names the account in every object that
 * comes of the session: ours, and what Stripe derives from it.
 */
export function buildSessionParams(order: SessionOrder): WithoutCustomer<SessionParams> {
  const account = formatId('acc', order.accountId);
  const names = {
    driftstack_account_id: account,
    driftstack_attempt_id: order.attemptId,
    driftstack_kind: order.kind,
  };
  const rest = {
    client_reference_id: account,
    line_items: [{ price: order.price, quantity: 1 as const }] satisfies [unknown],
    success_url: order.successUrl,
    cancel_url: order.cancelUrl,
    metadata: names,
  } satisfies Partial<SessionParams>;
  return order.kind === 'subscription'
    ? { mode: 'subscription', ...rest, subscription_data: { metadata: names } }
    : { mode: 'payment', ...rest, payment_intent_data: { metadata: names } };
}

/** The price that these parameters sell. */
export const priceOf = ({ line_items: [{ price }] }: SessionParams): string => price;

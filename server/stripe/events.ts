import { z } from 'zod';

/**
 * The events we ask Stripe for, and nothing else: `invoice.created` would let a failing endpoint delay charging, and
 * `invoice.payment_succeeded` doubles `invoice.paid`. A booked downgrade that is changed before its time is told by
 * its schedule alone. New ones go to the end: where the catch-up stands is kept for each list of them.
 */
export const EVENT_TYPES = [
  'checkout.session.completed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.async_payment_failed',
  'checkout.session.expired',
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.subscription.deleted',
  'customer.subscription.paused',
  'subscription_schedule.updated',
  'customer.subscription.trial_will_end',
  'invoice.paid',
  'invoice.upcoming',
  'invoice.payment_failed',
  'invoice.payment_action_required',
  'invoice.finalization_failed',
  'refund.failed',
  'charge.refunded',
  'charge.dispute.created',
  'charge.dispute.closed',
  'customer.deleted',
  'customer.updated',
  'customer.subscription.resumed',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

const MOST_LISTED = 20;

/** The same in as many lists as `events.list` needs, which takes twenty types at most. */
export const EVENT_LISTS: readonly (readonly EventType[])[] = Array.from(
  { length: Math.ceil(EVENT_TYPES.length / MOST_LISTED) },
  (_, at) => EVENT_TYPES.slice(at * MOST_LISTED, (at + 1) * MOST_LISTED),
);

/** Narrows a type that Stripe or our table wrote to the ones we handle. */
export function isHandled(type: string): type is EventType {
  return EVENT_TYPES.some((known) => known === type);
}

// Printable ASCII only: PostgreSQL refuses NUL in text, and ids of Stripe never hold anything else.
const text = z.string().regex(/^[\x21-\x7e]{1,255}$/);
const reference = z.union([text, z.object({ id: text }).transform(({ id }) => id)]);

/**
 * All we ever read of an event's body: it is stable across API versions. State is fetched afresh. The rest of it is
 * not copied: that took a third of the time of reading it.
 */
const eventSchema = z.object({
  id: text.regex(/^evt_/),
  object: z.literal('event'),
  type: text,
  created: z.int().min(0).max(253_402_300_799),
  livemode: z.boolean(),
  account: text.nullish(),
  api_version: text.nullish(),
  data: z.object({
    object: z.object({
      id: text.optional(),
      object: text,
      customer: reference.nullish(),
      client_reference_id: z.string().nullish(),
      metadata: z.record(z.string(), z.string()).nullish(),
      // Only ever looked at where it names what has no id; of any other form it is nothing.
      parent: z
        .object({ subscription_details: z.object({ subscription: reference }) })
        .nullish()
        .catch(null),
    }),
  }),
});
export type StripeEventBody = z.infer<typeof eventSchema>;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Reads a body that is signed but not yet understood; null if it is no event. */
export function parseEvent(rawBody: Uint8Array): StripeEventBody | null {
  try {
    return eventSchema.parse(JSON.parse(utf8.decode(rawBody)));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof z.ZodError)
      return null;
    throw error;
  }
}

/**
 * The id of what an event is about; null where it has none. The invoice of a renewal to come does not exist yet, so
 * that its event is about the subscription.
 */
export function objectIdOf({ type, data: { object } }: StripeEventBody): string | null {
  if (type !== 'invoice.upcoming') return object.id ?? null;
  return object.parent?.subscription_details.subscription ?? null;
}

/** The customer an event is about, for a customer's own events as well; null where the object has none. */
export function customerOf({ data: { object } }: StripeEventBody): string | null {
  if (object.object === 'customer') return object.id ?? null;
  return object.customer ?? null;
}

/** The account that we once wrote onto the object, by whichever of the two ways. */
export function accountNamedBy({ data: { object } }: StripeEventBody): string | null {
  return object.client_reference_id ?? object.metadata?.['driftstack_account_id'] ?? null;
}

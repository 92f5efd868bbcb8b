import { ProblemError } from '../../../shared/errors.ts';
import { parseId } from '../../../shared/ids.ts';
import { type Clock, realTime } from '../../../shared/time.ts';
import {
  accountNamedBy,
  customerOf,
  isHandled,
  objectIdOf,
  parseEvent,
  type StripeEventBody,
} from '../events.ts';
import type { EventStore, NewEvent } from './event-store.ts';
import { type OnSigned, verifySignature } from './signature.ts';

export type IntakeDeps = {
  events: EventStore;
  clock: Clock;
  /** Every secret that may sign: more than one while one is being replaced. */
  secrets: readonly string[];
  /** Whether this deployment uses a live key. */
  livemode: boolean;
  /** Hears of every delivery that Stripe signed, also of one that is refused for its time. */
  onSigned?: OnSigned;
};

/** The body as it came over the wire, and the one Stripe-Signature header it came with. */
export type Delivery = { rawBody: Buffer; signature: string | undefined };

/**
 * Stores an event so that acknowledging it is safe: the row and what makes its account due commit together, and
 * Stripe is not called. `ignored` events are stored and never processed; `duplicate` ones were here before.
 * Throws 400 and stores nothing for whatever is not a verified event.
 */
export async function takeIn(
  { events, clock, secrets, livemode, onSigned }: IntakeDeps,
  { rawBody, signature }: Delivery,
): Promise<'stored' | 'duplicate' | 'ignored'> {
  const now = clock.now();
  // Signed by the clock on the wall, whatever time the event itself lives in.
  verifySignature(secrets, rawBody, signature, realTime(clock), onSigned);
  const event = parseEvent(rawBody);
  if (!event) throw new ProblemError('bad-request', 'The signed body is not a Stripe event.');
  return await store({ events, livemode }, { event, rawBody }, now);
}

/** The same for an event whose sender is certain, be it by its signature or because we asked Stripe ourselves. */
export async function store(
  { events, livemode }: Pick<IntakeDeps, 'events' | 'livemode'>,
  { event, rawBody }: { event: StripeEventBody; rawBody: Buffer },
  now: Date,
): Promise<'stored' | 'duplicate' | 'ignored'> {
  const ignoredBecause = whyIgnored(event, livemode);
  const isNew = await events({
    id: event.id,
    type: event.type,
    objectId: objectIdOf(event),
    customerId: customerOf(event),
    livemode: event.livemode,
    apiVersion: event.api_version ?? null,
    createdAt: new Date(event.created * 1000),
    raw: rawBody,
    receivedAt: now,
    ignoredBecause,
    names: namedBy(event),
  });
  if (!isNew) return 'duplicate';
  return ignoredBecause === null ? 'stored' : 'ignored';
}

/** Only a reference of ours is to be believed, or to be doubted. */
function namedBy(event: StripeEventBody): NewEvent['names'] {
  const named = accountNamedBy(event);
  if (!named?.startsWith('acc_')) return null;
  return parseId('acc', named) ?? 'unknown';
}

function whyIgnored(event: StripeEventBody, livemode: boolean): string | null {
  if (event.livemode !== livemode) return `livemode is ${event.livemode}, ours is ${livemode}`;
  if (event.account) return 'belongs to a connected account';
  if (!isHandled(event.type)) return 'a type we do not handle';
  return null;
}

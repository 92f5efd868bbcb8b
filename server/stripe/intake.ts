import { raw } from '@mikro-orm/postgresql';
import { ProblemError } from '../../shared/errors.ts';
import { type Clock, realTime } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { notifyDue } from '../database/due.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { raiseWanted } from '../database/lease.ts';
import { customerOf, isHandled, objectIdOf, parseEvent, type StripeEventBody } from './events.ts';
import { accountOf, contradicts } from './owner.ts';
import { type OnSigned, verifySignature } from './signature.ts';

export type IntakeDeps = {
  db: Database;
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
 * Stores an event so that acknowledging it is safe: with its row its account is due, or it is itself where its account
 * has to be found out first. Stripe is not called. `ignored` events are stored and never processed; `duplicate` ones were here before.
 * Throws 400 and stores nothing for whatever is not a verified event.
 */
export async function takeIn(
  { db, clock, secrets, livemode, onSigned }: IntakeDeps,
  { rawBody, signature }: Delivery,
): Promise<'stored' | 'duplicate' | 'ignored'> {
  const now = clock.now();
  // Signed by the clock on the wall, whatever time the event itself lives in.
  verifySignature(secrets, rawBody, signature, realTime(clock), onSigned);
  const event = parseEvent(rawBody);
  if (!event) throw new ProblemError('bad-request', 'The signed body is not a Stripe event.');
  return await store({ db, livemode }, { event, rawBody }, now);
}

/** The same for an event whose sender is certain, be it by its signature or because we asked Stripe ourselves. */
export async function store(
  { db, livemode }: Pick<IntakeDeps, 'db' | 'livemode'>,
  { event, rawBody }: { event: StripeEventBody; rawBody: Buffer },
  now: Date,
): Promise<'stored' | 'duplicate' | 'ignored'> {
  const reason = whyIgnored(event, livemode);
  return await db.transaction(async (tx) => {
    const customerId = customerOf(event);
    const owner = reason === null && customerId !== null ? await accountOf(tx, customerId) : null;
    // What contradicts itself is set aside by those who find out whose the others are.
    const accountId = owner !== null && !contradicts(event, owner) ? owner : null;
    const isOwnerless = reason === null && accountId === null;
    const inserted = await tx
      .createQueryBuilder(StripeEvent)
      .insert({
        id: event.id,
        type: event.type,
        objectId: objectIdOf(event),
        customerId,
        accountId,
        // Whoever is to find out whose it is goes by the clock of the database.
        dueAt: isOwnerless ? raw('now()') : null,
        livemode: event.livemode,
        apiVersion: event.api_version ?? null,
        createdAt: new Date(event.created * 1000),
        raw: rawBody,
        state: reason === null ? 'received' : 'ignored',
        attempts: 0,
        error: reason,
        receivedAt: now,
        processedAt: reason === null ? null : now,
      })
      .onConflict('id')
      .ignore()
      .returning('id')
      .execute('all');
    if (inserted.length === 0) return 'duplicate';
    if (reason !== null) return 'ignored';
    if (accountId !== null) await raiseWanted(tx, [accountId]);
    await notifyDue(tx, accountId === null ? 'stripe_event' : 'account');
    return 'stored';
  });
}

function whyIgnored(event: StripeEventBody, livemode: boolean): string | null {
  if (event.livemode !== livemode) return `livemode is ${event.livemode}, ours is ${livemode}`;
  if (event.account) return 'belongs to a connected account';
  if (!isHandled(event.type)) return 'a type we do not handle';
  return null;
}

import { raw } from '@mikro-orm/postgresql';
import { ProblemError } from '../../../shared/errors.ts';
import { append } from '../../audit/append.ts';
import type { Tx } from '../../database/connection.ts';
import { notifyDue } from '../../database/due.ts';
import { StripeEvent } from '../../database/entities/journal.ts';
import { raiseWanted } from '../../database/lease.ts';

/**
 * Gives an event that was set aside, or that nobody owned, back to the worker, as if it had just arrived, and
 * notes it in the account's audit log where the account is known. Processing is safe to repeat. Throws
 * `not-found`, and `conflict` for an event that waits or is done.
 */
export async function replayEvent(tx: Tx, eventId: string, now: Date): Promise<{ accountId: string | null }> {
  const event = await tx.findOne(StripeEvent, eventId, { exclude: ['raw'] });
  if (!event) throw new ProblemError('not-found', `There is no event ${eventId} here.`);
  const accountId = event.accountId ?? null;
  // The account's lock comes first, as it does wherever its events are written.
  if (accountId !== null && event.state !== 'done') {
    await append(tx, {
      accountId,
      action: 'operator.event_replayed',
      targetResourceId: eventId,
      payload: { type: event.type, was: event.state, reason: event.error ?? null },
      actor: { type: 'staff' },
      dedupeKey: `replayed:${eventId}:${now.getTime()}`,
      now,
    });
  }
  const dueAt = accountId === null ? raw('now()') : null;
  const fresh = { state: 'received' as const, attempts: 0, error: null, processedAt: null, dueAt };
  const changed = await tx.nativeUpdate(
    StripeEvent,
    { id: eventId, state: { $in: ['dead', 'ignored'] } },
    fresh,
  );
  if (changed === 0) {
    throw new ProblemError('conflict', `${eventId} was not set aside: it is ${event.state}.`);
  }
  if (accountId !== null) await raiseWanted(tx, [accountId]);
  await notifyDue(tx, accountId === null ? 'stripe_event' : 'account');
  return { accountId };
}

/** The events that were set aside, oldest first. */
export async function deadEvents(tx: Tx): Promise<string[]> {
  const dead = await tx.find(
    StripeEvent,
    { state: 'dead' },
    { fields: ['id'], orderBy: { receivedAt: 'asc', id: 'asc' } },
  );
  return dead.map(({ id }) => id);
}

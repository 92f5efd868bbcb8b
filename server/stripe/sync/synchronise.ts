import type { Database } from '../../database/connection.ts';
import { StripeEvent } from '../../database/entities/journal.ts';
import { raiseRefusal } from '../alarm.ts';
import type { SyncDeps } from '../deps.ts';
import { type AccountLease, finish, readWanted } from './account-lease.ts';
import type { Cause } from './cause.ts';
import { countFailure, isForGood, isOutage, reasonOf } from './failure.ts';
import { type Failures, pass } from './pass.ts';
import { inTurn } from './turns.ts';

/**
 * Brings an account to what Stripe holds now: subscription row, trial pack, attempts, audit log and mails, in one
 * transaction, and marks the events that waited for it. It is looked at by one at a time, which its lease sees to, so
 * what was read is never overtaken; called twice, or with nothing new, it changes nothing.
 *
 * An event that cannot be carried out counts an attempt and is returned; it does not hold up the others.
 * Throws when Stripe or the database cannot be reached at all, or when its turn does not come: then nothing has
 * happened.
 */
export async function synchronise(deps: SyncDeps, accountId: string, cause: Cause): Promise<Failures> {
  return await inTurn(deps.db, accountId, cause, async (lease, stripeMs) => {
    const { failures } = await synchroniseUnder(deps, lease, { cause, stripeMs, keeps: false });
    return failures;
  });
}

type Terms = { cause: Cause; stripeMs: number; keeps: boolean };

/** The same, for whoever has the lease, which is let go of with it, unless `keeps`: then `finish` ends it. */
export async function synchroniseUnder(
  deps: SyncDeps,
  lease: AccountLease,
  { cause, stripeMs, keeps }: Terms,
): Promise<{ failures: Failures; wanted: string }> {
  try {
    return await pass(deps, lease, cause, { only: null, dryRun: false, stripeMs, keeps });
  } catch (error) {
    if (isOutage(error)) throw error;
    const wanted = await readWanted(deps.db, lease.accountId);
    const pending = await pendingIds(deps.db, lease.accountId);
    if (pending.length === 0) throw error;
    const failures = await oneByOne(deps, lease, { cause, stripeMs }, pending);
    const failed = failures.values().next().value ?? null;
    if (!keeps) await finish(deps.db, lease, { wanted, failed });
    return { failures, wanted };
  }
}

/**
 * Something that was written for one of the events was refused, and took the whole transaction with it: each on
 * its own, so that only the one at fault fails.
 */
async function oneByOne(
  deps: SyncDeps,
  lease: AccountLease,
  { cause, stripeMs }: Pick<Terms, 'cause' | 'stripeMs'>,
  eventIds: readonly string[],
): Promise<Failures> {
  const failures = new Map<string, string>();
  for (const eventId of eventIds) {
    try {
      const alone = await pass(deps, lease, cause, { only: [eventId], dryRun: false, stripeMs, keeps: true });
      for (const [id, reason] of alone.failures) failures.set(id, reason);
    } catch (error) {
      if (isOutage(error)) throw error;
      raiseRefusal(deps, lease.accountId, error);
      const givenUp = await deps.db.transaction((tx) =>
        countFailure(tx, eventId, error, { now: deps.clock.now() }),
      );
      if (!isForGood(error) && !givenUp) failures.set(eventId, reasonOf(error));
    }
  }
  return failures;
}

async function pendingIds(db: Database, accountId: string): Promise<string[]> {
  const events = await db.orm.em
    .fork()
    .find(StripeEvent, { accountId, state: 'received' }, { fields: ['id'], orderBy: { createdAt: 'asc' } });
  return events.map(({ id }) => id);
}

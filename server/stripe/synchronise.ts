import type { Database } from '../database/connection.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { raiseRefusal } from './alarm.ts';
import type { Cause } from './cause.ts';
import type { SyncDeps } from './deps.ts';
import { countFailure, isForGood, isOutage, reasonOf } from './failure.ts';
import { type Failures, pass } from './pass.ts';
import { inTurn } from './turns.ts';

/**
 * Brings an account to what Stripe holds now: subscription row, trial pack, attempts, audit log and mails, in
 * one transaction, and marks the events that waited for it. The account's row is locked before Stripe is read,
 * so what was read is never overtaken; called twice, or with nothing new, it changes nothing.
 *
 * An event that cannot be carried out counts an attempt and is returned; it does not hold up the others.
 * Throws when Stripe or the database cannot be reached at all, or when its turn does not come: then nothing has
 * happened.
 */
export async function synchronise(deps: SyncDeps, accountId: string, cause: Cause): Promise<Failures> {
  const { failures } = await inTurn(deps.db, accountId, cause, async (stripeMs) => ({
    failures: await synchroniseNow(deps, accountId, cause, stripeMs),
    differences: [],
  }));
  return failures;
}

/** The same, for whoever has the turn. */
export async function synchroniseNow(
  deps: SyncDeps,
  accountId: string,
  cause: Cause,
  stripeMs: number,
): Promise<Failures> {
  try {
    return (await pass(deps, accountId, cause, { only: null, dryRun: false, stripeMs })).failures;
  } catch (error) {
    const pending = isOutage(error) ? [] : await pendingIds(deps.db, accountId);
    if (pending.length === 0) throw error;
    return await oneByOne(deps, { accountId, cause, stripeMs }, pending);
  }
}

/**
 * Something that was written for one of the events was refused, and took the whole transaction with it: each on
 * its own, so that only the one at fault fails.
 */
async function oneByOne(
  deps: SyncDeps,
  { accountId, cause, stripeMs }: { accountId: string; cause: Cause; stripeMs: number },
  eventIds: readonly string[],
): Promise<Failures> {
  const failures = new Map<string, string>();
  for (const eventId of eventIds) {
    try {
      const alone = await pass(deps, accountId, cause, { only: [eventId], dryRun: false, stripeMs });
      for (const [id, reason] of alone.failures) failures.set(id, reason);
    } catch (error) {
      if (isOutage(error)) throw error;
      raiseRefusal(deps, accountId, error);
      if (!isForGood(error)) failures.set(eventId, reasonOf(error));
      await deps.db.transaction((tx) => countFailure(tx, eventId, error));
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

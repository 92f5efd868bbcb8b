import { StripeEvent } from '../database/entities/journal.ts';
import type { JobHandler, JobOutcome } from '../database/jobs.ts';
import { reasonOf } from './failure.ts';
import { assignOwners } from './owner.ts';
import { type SyncDeps, synchronise } from './synchronise.ts';

/**
 * Processes stored events: finds the account of each and synchronises every account once, however many of its
 * events are among them. Returns the events to be tried again, with the reason. Events processed before, or
 * unknown, need nothing.
 */
export async function processEvents(
  deps: SyncDeps,
  eventIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { owned, failures: ownerless } = await assignOwners(deps, eventIds);
  const failures = new Map(ownerless);
  const accounts = new Map<string, string[]>();
  for (const { eventId, accountId } of owned) {
    accounts.set(accountId, [...(accounts.get(accountId) ?? []), eventId]);
  }
  for (const [accountId, ids] of accounts) {
    try {
      for (const [id, reason] of await synchronise(deps, accountId, { kind: 'events' }))
        failures.set(id, reason);
    } catch (error) {
      // Other accounts are not held up; the queue comes back to this one.
      deps.log.warn(
        { accountId, err: error },
        'an account could not be synchronised and will be tried again',
      );
      for (const id of ids) failures.set(id, reasonOf(error));
    }
  }
  return failures;
}

/** The worker of the queue of Stripe events. When the queue gives an event up it is set aside as `dead`. */
export function stripeEventHandler(deps: SyncDeps): JobHandler<'stripe-event'> {
  return async (jobs) => {
    const failures = await processEvents(
      deps,
      jobs.map(({ data }) => data.eventId),
    );
    const outcomes: JobOutcome[] = [];
    for (const { id, data, isLastAttempt } of jobs) {
      const reason = failures.get(data.eventId);
      if (reason === undefined) {
        outcomes.push({ id, status: 'completed' });
        continue;
      }
      if (isLastAttempt) await bury(deps, data.eventId, reason);
      outcomes.push({ id, status: 'failed', reason });
    }
    return outcomes;
  };
}

async function bury({ db, log, clock }: SyncDeps, eventId: string, reason: string): Promise<void> {
  await db.orm.em
    .fork()
    .nativeUpdate(
      StripeEvent,
      { id: eventId, state: 'received' },
      { state: 'dead', error: reason, processedAt: clock.now() },
    );
  log.error({ eventId, reason }, 'a Stripe event was given up; replay it once the reason is gone');
}

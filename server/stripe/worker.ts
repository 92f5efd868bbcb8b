import { StripeEvent } from '../database/entities/journal.ts';
import type { JobHandler, JobOutcome } from '../database/jobs.ts';
import { raiseRefusal } from './alarm.ts';
import type { SyncDeps } from './deps.ts';
import { countFailure, isForGood, reasonOf } from './failure.ts';
import { askForOwner, assignOwners } from './owner.ts';
import type { Failures } from './pass.ts';
import { synchronise } from './synchronise.ts';

/**
 * An account that hangs holds its batch's place until Stripe's time is up, so batches are small and there is
 * more than one place; the other events of the batch are done by then, and only their jobs still open. Not more
 * places, because each of them asks the queue whenever an event arrives.
 */
export const STRIPE_EVENT_WORKERS = { batchSize: 10, concurrency: 5 } as const;

/**
 * Processes stored events: finds the account of each and synchronises every account once, however many of its
 * events are among them, side by side with the others. (An event whose account only Stripe can tell comes when
 * Stripe has told.) Returns the events to be tried again, with the reason. Events processed before, or unknown,
 * need nothing.
 */
export async function processEvents(deps: SyncDeps, eventIds: readonly string[]): Promise<Failures> {
  const failures = new Map<string, string>();
  const settle = async (accountId: string, ids: readonly string[]): Promise<void> => {
    try {
      const failed = await synchronise(deps, accountId, { kind: 'events' });
      for (const [id, reason] of failed) failures.set(id, reason);
    } catch (error) {
      raiseRefusal(deps, accountId, error);
      // Other accounts are not held up; the queue comes back to this one.
      deps.log.warn(
        { accountId, err: error },
        'an account could not be synchronised and will be tried again',
      );
      for (const id of ids) failures.set(id, reasonOf(error));
    }
  };
  const { owned, unnamed } = await assignOwners(deps, eventIds);
  const accounts = Map.groupBy(owned, ({ accountId }) => accountId);
  await Promise.all([
    ...[...accounts].map(([accountId, its]) =>
      settle(
        accountId,
        its.map(({ eventId }) => eventId),
      ),
    ),
    ...unnamed.map(async (event) => {
      try {
        const owner = await askForOwner(deps, event);
        if (owner) await settle(owner.accountId, [owner.eventId]);
      } catch (error) {
        raiseRefusal(deps, null, error);
        if (isForGood(error)) await deps.db.transaction((tx) => countFailure(tx, event.id, error));
        else failures.set(event.id, reasonOf(error));
      }
    }),
  ]);
  return failures;
}

/** The worker of the queue of Stripe events. When the queue gives an event up it is set aside as `dead`. */
export function stripeEventHandler(deps: SyncDeps): JobHandler<'stripe-event'> {
  return async (jobs) => {
    const ids = jobs.map(({ data }) => data.eventId);
    const failures = await processEvents(deps, ids);
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

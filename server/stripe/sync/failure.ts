import { ProblemError } from '../../../shared/errors.ts';
import type { Tx } from '../../database/connection.ts';
import { inOneLine } from '../../database/describe-error.ts';
import { isDatabaseUnavailable } from '../../database/unavailable.ts';
import { isRefused } from '../api/refusal.ts';
import { Contradiction } from './record-fact.ts';

const LONGEST_REASON = 500;

/**
 * Whether Stripe or the database is away as a whole, or does nothing for us until somebody has mended our key, which
 * is no fault of the event at hand.
 */
export function isOutage(error: unknown): boolean {
  if (isDatabaseUnavailable(error)) return true;
  return error instanceof ProblemError && error.status >= 500 && !isRefused(error);
}

/** Whether trying again cannot help: then the event is set aside at once, for a person. */
export function isForGood(error: unknown): boolean {
  return error instanceof Contradiction || isRefused(error);
}

/** Why an event could not be carried out, in one line and without values. */
export function reasonOf(error: unknown): string {
  // What a caller is told is kept general; for the operator Stripe's own words are added.
  return inOneLine(error).slice(0, LONGEST_REASON);
}

/** So often an event is tried at least, and for so long, before it is given up: longer than an outage of Stripe. */
export const TRIES = 35;
const TRIED_FOR_MS = 6 * 3_600_000;

/** What was heard of before this has been tried for long enough. */
export const triedSince = (now: Date): Date => new Date(now.getTime() - TRIED_FOR_MS);

/**
 * Counts a failed attempt of an event. What fails for good is set aside at once as `dead`, and what has failed for
 * long enough is given up: true then. Of one whose account is being looked for, `lease` is let go of, to come back to
 * it after a pause as long as that of an account.
 */
export async function countFailure(
  tx: Tx,
  eventId: string,
  error: unknown,
  { now, lease = null }: { now: Date; lease?: string | null },
): Promise<boolean> {
  const values = [reasonOf(error), isForGood(error), TRIES, triedSince(now), now, eventId, lease];
  const [row] = await tx.execute<{ state: string }[]>(COUNT, values);
  return row?.state === 'dead' && !isForGood(error);
}

const COUNT = `with failed as (
  select id, ?::text as reason, ?::boolean or (attempts + 1 >= ?::int and received_at <= ?::timestamptz) as over,
    ?::timestamptz as at
  from stripe_event where id = ? and lease is not distinct from ?::uuid for no key update)
update stripe_event e set attempts = attempts + 1, error = reason, lease = null, leased_until = null,
  state = case when over then 'dead' else 'received' end, processed_at = case when over then at end,
  due_at = case when e.account_id is null and not over
    then now() + least(900, 2 * power(2, least(attempts, 10))) * interval '1 second' end
from failed where e.id = failed.id returning e.state`;

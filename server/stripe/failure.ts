import { raw } from '@mikro-orm/postgresql';
import { ProblemError } from '../../shared/errors.ts';
import type { Tx } from '../database/connection.ts';
import { inOneLine } from '../database/describe-error.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { isDatabaseUnavailable } from '../database/unavailable.ts';
import { isRefused } from './calls/refusal.ts';
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

/** Counts a failed attempt of an event; what fails for good is set aside at once. */
export async function countFailure(tx: Tx, eventId: string, error: unknown): Promise<void> {
  await tx
    .createQueryBuilder(StripeEvent)
    .update({
      state: isForGood(error) ? 'dead' : 'received',
      error: reasonOf(error),
      attempts: raw('attempts + 1'),
    })
    .where({ id: eventId })
    .execute();
}

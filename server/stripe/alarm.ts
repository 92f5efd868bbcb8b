import { ProblemError } from '../../shared/errors.ts';
import { refusalDetails } from './api/refusal.ts';
import type { Alarm, SyncDeps } from './deps.ts';

/** Has a person look at something about an account: one line in the log, and one in the figures. */
export function raise(
  { log, onAlarm }: Pick<SyncDeps, 'log' | 'onAlarm'>,
  accountId: string | null,
  alarm: Alarm,
): void {
  log.error({ accountId, ...alarm }, 'Stripe told us something that a person has to look at');
  onAlarm?.(alarm);
}

/** The alarm for what only an operator can mend; null for everything that is not of that kind. */
export function alarmOf(error: unknown): Alarm | null {
  if (!(error instanceof ProblemError) || error.slug !== 'feature-unavailable') return null;
  return { kind: 'stripe_refused', details: refusalDetails(error) };
}

/** Raises that alarm where there is one. */
export function raiseRefusal(
  deps: Pick<SyncDeps, 'log' | 'onAlarm'>,
  accountId: string | null,
  error: unknown,
): void {
  const alarm = alarmOf(error);
  if (alarm) raise(deps, accountId, alarm);
}

import type { PostResult } from './post.ts';

const MINUTE_MS = 60_000;
/** The pauses before the second to the sixth try, in minutes. */
const PAUSES_MINUTES = [1, 5, 15, 30, 60] as const;
const MAX_RETRY_AFTER_MS = 86_400_000;

export type Verdict =
  | { readonly kind: 'delivered' }
  /** `holdUntil`: the endpoint asked not to be called before. */
  | { readonly kind: 'failed'; readonly nextAttemptAt: Date; readonly holdUntil: Date | null }
  | { readonly kind: 'dlq'; readonly holdUntil: Date | null };

/** What follows from one try: the attempt counts from 1, and the sixth is the last. */
export function judge(result: PostResult, attempt: number, now: Date): Verdict {
  if (result.status !== null && result.status >= 200 && result.status < 300) return { kind: 'delivered' };
  const holdUntil = retryAfter(result.retryAfter, now);
  const pause = PAUSES_MINUTES[attempt - 1];
  if (pause === undefined) return { kind: 'dlq', holdUntil };
  const scheduled = now.getTime() + pause * MINUTE_MS;
  return {
    kind: 'failed',
    nextAttemptAt: new Date(Math.max(scheduled, holdUntil?.getTime() ?? 0)),
    holdUntil,
  };
}

/** Reads Retry-After, in seconds or as a date; a day at most. Null for what cannot be read or has passed. */
function retryAfter(text: string | null, now: Date): Date | null {
  if (text === null) return null;
  const waitMs = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now.getTime();
  return waitMs > 0 ? new Date(now.getTime() + Math.min(waitMs, MAX_RETRY_AFTER_MS)) : null;
}

const FIVE_DAYS_MS = 5 * 86_400_000;

/** Why an endpoint is to be paused after a failure, or null. */
export function pauseReason(
  status: number | null,
  failingSince: Date | null,
  now: Date,
): 'gone' | 'failing' | null {
  if (status === 410) return 'gone';
  return failingSince !== null && now.getTime() - failingSince.getTime() >= FIVE_DAYS_MS ? 'failing' : null;
}

import type { DueMail, Settled } from './due-mails.ts';
import type { SendResult } from './resend.ts';

/** One request, as it was written down before it was made. */
export type Attempt = {
  readonly lease: string;
  /** The idempotency key, and what is written on each row. */
  readonly key: string;
  /** One mail, sent by itself. */
  readonly isAlone: boolean;
  /** Whether no attempt before this one can have reached the provider. */
  readonly isFirst: boolean;
  /** Whether it is a part of one that was divided; it stays apart until it is sent. */
  readonly isPart: boolean;
  /** In the order in which they were sent, each with its attempts, this one included. */
  readonly mails: readonly DueMail[];
};

const FIRST_WAIT_MS = 5_000;
const LONGEST_WAIT_MS = 1_800_000;

/** What a result means for each mail of an attempt. `newId` names batches that have not been sent yet. */
export function becomesOf(attempt: Attempt, result: SendResult, newId: () => string): readonly Settled[] {
  const { mails, isFirst } = attempt;
  switch (result.kind) {
    case 'accepted':
      return mails.map((mail, index) => {
        const providerId = result.providerIds[index];
        return { ...known(mail), state: 'sent', isUnsent: false, ...(providerId && { providerId }) };
      });
    case 'refused':
      if (mails.length > 1 && provesUnsent(result, isFirst)) return divided(attempt, result, newId);
      return all(attempt, { state: 'parked', error: parkedFor(result, isFirst), isUnsent: false });
    case 'not_now': {
      const waitMs = result.retryAfterMs ?? pauseAfter(attempt);
      const later = all(attempt, {
        ...{ state: 'pending', error: result.reason, isUnsent: isFirst, waitMs },
        ...(attempt.isPart && { batchId: attempt.key }),
      });
      // A quota that is too small for all of them may still be enough for some.
      if (mails.length === 1 || !isFirst || !QUOTAS.has(result.code)) return later;
      const half = divided(attempt, result, newId).slice(0, Math.ceil(mails.length / 2));
      return [...half, ...later.slice(half.length)];
    }
    case 'unclear':
      return all(attempt, {
        state: 'pending',
        error: result.reason,
        isUnsent: false,
        waitMs: pauseAfter(attempt),
      });
  }
}

const known = ({ id, attempts }: DueMail): Pick<Settled, 'id' | 'attempts'> => ({ id, attempts });

const all = ({ mails }: Attempt, what: Omit<Settled, 'id' | 'attempts'>): readonly Settled[] =>
  mails.map((mail) => ({ ...known(mail), ...what }));

/** Twice as long each time, up to half an hour. */
function pauseAfter({ mails }: Attempt): number {
  const attempts = Math.max(...mails.map((mail) => mail.attempts));
  return Math.min(FIRST_WAIT_MS * 2 ** (attempts - 1), LONGEST_WAIT_MS);
}

/**
 * Two halves, due at once under ids that were never used: so one bad mail costs a few requests, and itself. Only for
 * what certainly has not gone out.
 */
function divided(
  { mails }: Attempt,
  { reason }: { reason: string },
  newId: () => string,
): readonly Settled[] {
  const middle = Math.ceil(mails.length / 2);
  return [mails.slice(0, middle), mails.slice(middle)].flatMap((half) => {
    const [first] = half;
    const batchId = half.length === 1 && first ? first.id : newId();
    return half.map(
      (mail): Settled => ({
        ...known(mail),
        state: 'pending',
        error: reason,
        isUnsent: true,
        batchId,
        waitMs: 0,
      }),
    );
  });
}

type Refusal = Extract<SendResult, { kind: 'refused' }>;

/** A mail or all of them are judged by what they say, which does not change: a repetition hears the same. */
const FOR_CONTENT: ReadonlySet<number> = new Set([400, 413, 422]);
/** A mail or the sender is judged by more than that, such as a domain, which may have been well before. */
const FOR_STANDING: ReadonlySet<number> = new Set([403, 451]);
const QUOTAS: ReadonlySet<string> = new Set(['daily_quota_exceeded', 'monthly_quota_exceeded']);

/**
 * Whether a refusal is about mails and proves that no attempt of this batch has sent any: a batch is taken whole or
 * not at all, and what was taken is answered as it was the first time.
 */
function provesUnsent({ status }: Refusal, isFirst: boolean): boolean {
  return FOR_CONTENT.has(status) || (isFirst && FOR_STANDING.has(status));
}

function parkedFor(refusal: Refusal, isFirst: boolean): string {
  return isFirst || provesUnsent(refusal, isFirst)
    ? refusal.reason
    : `${refusal.reason}. An earlier attempt may have sent it; look it up at the provider first`;
}

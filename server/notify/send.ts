import { LockMode } from '@mikro-orm/postgresql';
import { type Clock, realTime } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Email } from '../database/entities/journal.ts';
import { enqueue } from '../database/jobs.ts';
import { isEmailAddress } from './address.ts';
import type { EmailContext } from './content.ts';
import type { Pace } from './pace.ts';
import type { RenderedEmail } from './render.ts';
import type { EmailSender, SendResult } from './resend.ts';

export type SendDeps = {
  db: Database;
  /** Null where this deployment sends no mails. */
  resend: EmailSender | null;
  /** The sender, such as `Billing <billing@your.app>`. */
  from: string;
  context: EmailContext;
  pace: Pace;
  clock: Clock;
  log: { info(details: object, message: string): void; warn(details: object, message: string): void };
};

export type SendOutcome = 'sent' | 'parked' | 'not_configured' | 'later' | 'nothing_to_do';

const HOUR_MS = 3_600_000;
/** Resend remembers an idempotency key for 24 hours; an hour is left for clocks and slow answers. */
const KEY_TRUSTED_MS = 23 * HOUR_MS;
/** What a mail says about dates is no help after that. */
const STALE_MS = 72 * HOUR_MS;

/**
 * The `send-email` job: hands a pending mail to the provider, with the id of its row as the idempotency key,
 * so that a repetition within the life of the key sends nothing twice. What may have gone out more than 23
 * hours ago is parked for a person. Sets up its own next run; throws only if the database fails.
 */
export async function sendEmail(deps: SendDeps, emailId: string): Promise<SendOutcome> {
  const { resend } = deps;
  if (resend === null) return await giveUp(deps, emailId);
  await deps.pace.turn();
  const attempt = await begin(deps, emailId);
  if (attempt.kind !== 'ready') return attempt.kind;
  const { rendered, to } = attempt;
  const result = await resend.send({ from: deps.from, to, ...rendered }, emailId);
  if (result.kind === 'not_now') deps.pace.hold(Math.min(result.retryAfterMs ?? MIN_HOLD_MS, MAX_HOLD_MS));
  return await settle(deps, attempt, result);
}

/** How long others wait after one was told to; quotas of a day are left to each mail's own next run. */
const MIN_HOLD_MS = 1_000;
const MAX_HOLD_MS = 10_000;

async function giveUp({ db, log }: SendDeps, emailId: string): Promise<SendOutcome> {
  return await db.transaction(async (tx) => {
    const email = await lockPending(tx, emailId);
    if (email === null) return 'nothing_to_do';
    email.state = 'not_configured';
    log.info({ emailId, template: email.template }, 'mail not sent: no provider is configured');
    return 'not_configured';
  });
}

type Attempt = {
  kind: 'ready';
  emailId: string;
  to: string;
  rendered: RenderedEmail;
  /** Counts from 1. */
  number: number;
  /** Whether no attempt before this one can have reached the provider. */
  isFirst: boolean;
};

/** Writes down that the mail may go out from now on, before it does. */
async function begin(
  deps: SendDeps,
  emailId: string,
): Promise<Attempt | { kind: 'parked' | 'nothing_to_do' }> {
  const now = deps.clock.now();
  // React and what it needs are loaded at the first mail; a process that sends none does without.
  const { renderEmail } = await import('./render.ts');
  return await deps.db.transaction(async (tx) => {
    const email = await lockPending(tx, emailId);
    if (email === null) return { kind: 'nothing_to_do' };
    const written =
      tooLate(email, now) ??
      (await compose(email, (template, data) => renderEmail(template, data, deps.context)));
    if (typeof written === 'string') return { kind: park(deps, email, 'not_sendable', written) };
    const isFirst = email.firstAttemptAt == null;
    email.firstAttemptAt ??= now;
    email.attempts += 1;
    return {
      kind: 'ready',
      emailId,
      to: email.toAddress,
      rendered: written,
      number: email.attempts,
      isFirst,
    };
  });
}

async function lockPending(tx: Tx, emailId: string): Promise<Email | null> {
  const email = await tx.findOne(Email, { id: emailId }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  return email?.state === 'pending' ? email : null;
}

function tooLate(email: Email, now: Date): string | null {
  if (email.firstAttemptAt != null && now.getTime() - email.firstAttemptAt.getTime() > KEY_TRUSTED_MS) {
    return 'May have gone out more than 23 hours ago; look it up at the provider before sending it again';
  }
  if (now.getTime() - email.createdAt.getTime() > STALE_MS) return 'Not accepted for three days';
  return null;
}

/** The mail, or what is wrong with its row. */
async function compose(
  email: Email,
  write: (template: string, data: unknown) => Promise<RenderedEmail>,
): Promise<RenderedEmail | string> {
  if (!isEmailAddress(email.toAddress)) return 'The address is none';
  try {
    return await write(email.template, email.data);
  } catch (error) {
    return `Cannot be written: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function park({ log }: SendDeps, email: Email, code: string, reason: string): 'parked' {
  email.state = 'parked';
  email.error = reason;
  log.warn({ emailId: email.id, template: email.template, code }, 'mail parked for a person');
  return 'parked';
}

async function settle(deps: SendDeps, attempt: Attempt, result: SendResult): Promise<SendOutcome> {
  const now = deps.clock.now();
  const { emailId } = attempt;
  return await deps.db.transaction(async (tx) => {
    const email = await lockPending(tx, emailId);
    if (email === null) return 'nothing_to_do';
    if (result.kind === 'accepted') {
      email.state = 'sent';
      email.sentAt = now;
      email.providerId = result.providerId;
      email.error = null;
      deps.log.info({ emailId, template: email.template, providerId: result.providerId }, 'mail sent');
      return 'sent';
    }
    if (result.kind === 'refused') return park(deps, email, result.code, result.reason);
    email.error = result.reason;
    // Nothing has gone out if the only attempt so far was turned away, so the 23 hours have not begun.
    const isOnly = attempt.isFirst && email.attempts === attempt.number;
    if (result.kind === 'not_now' && isOnly) email.firstAttemptAt = null;
    // Providers and queues know real time alone.
    const startAfter = new Date(realTime(deps.clock).getTime() + waitMs(attempt.number, result));
    await enqueue(tx, 'send-email', { emailId }, { startAfter });
    deps.log.info(
      { emailId, template: email.template, code: result.code, startAfter },
      'mail to be sent later',
    );
    return 'later';
  });
}

const FIRST_WAIT_MS = 5_000;
const LONGEST_WAIT_MS = 1_800_000;

/** Twice as long each time, up to half an hour, unless the provider says how long. */
function waitMs(attemptNumber: number, result: SendResult): number {
  const asked = result.kind === 'not_now' ? result.retryAfterMs : null;
  return asked ?? Math.min(FIRST_WAIT_MS * 2 ** (attemptNumber - 1), LONGEST_WAIT_MS);
}

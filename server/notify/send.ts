import type { Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { giveBack } from '../database/lease.ts';
import { uuidv7 } from '../database/uuid.ts';
import { isEmailAddress } from './address.ts';
import type { EmailContext } from './content.ts';
import { type Batch, beginBatch, type DueMail, type Settled, settleMails } from './due-mails.ts';
import { type Attempt, becomesOf } from './outcome.ts';
import type { RenderedEmail } from './render.ts';
import type { EmailSender, SendResult } from './resend.ts';
import type { SendingPace } from './sending-pace.ts';

export type SendDeps = {
  db: Database;
  /** Null where this deployment sends no mails. */
  resend: EmailSender | null;
  /** The sender, such as `Billing <billing@your.app>`. */
  from: string;
  context: EmailContext;
  pace: SendingPace;
  clock: Clock;
  log: { info(details: object, message: string): void; warn(details: object, message: string): void };
};

const HOUR_MS = 3_600_000;
/** Resend remembers an idempotency key for 24 hours; an hour is left for clocks and slow answers. */
const KEY_TRUSTED_MS = 23 * HOUR_MS;
/** What a mail says about dates is no help after that. */
const STALE_MS = 72 * HOUR_MS;
/** How long mails wait whose sending was broken off by a failure of ours. */
const BROKEN_OFF_MS = 5_000;

/**
 * Hands a leased batch to the provider and writes down what came of it, in one statement. Its id is on the rows
 * before it goes out, and is the idempotency key: a repetition is the same rows in the same order with the same
 * words under the same key, which within the life of the key sends nothing twice. What may have gone out more than
 * 23 hours ago is parked for a person. Gives the mails back whatever happens.
 */
export async function sendBatch(deps: SendDeps, batch: Batch, signal?: AbortSignal): Promise<void> {
  try {
    await send(deps, batch, signal);
  } catch (error) {
    const keys = batch.mails.map(({ id }) => id);
    const isEnd = signal?.aborted === true;
    await giveBack(deps.db, 'email', { lease: batch.lease, keys }, isEnd ? 0 : BROKEN_OFF_MS).catch(
      (err: unknown) =>
        deps.log.warn({ err, emailIds: keys }, 'mails could not be given back; their lease ends'),
    );
    if (!isEnd) throw error;
  }
}

async function send(deps: SendDeps, batch: Batch, signal?: AbortSignal): Promise<void> {
  const { resend } = deps;
  // Leasing them was enough: they are not due any more.
  if (!batch.mails.some(({ isPending }) => isPending)) return;
  if (resend === null) return await giveUp(deps, batch);
  const written = await compose(deps, batch);
  if (written.length === 0) return;
  await deps.pace.turn(signal);
  const attempt = await begin(deps, batch, written);
  // Somebody else has them by now.
  if (attempt === null) return;
  const mails = written.map(({ mail, rendered }) => ({ from: deps.from, to: mail.to, ...rendered }));
  const [only] = mails;
  const result =
    only && attempt.isAlone
      ? await resend.send(only, attempt.key)
      : await resend.sendBatch(mails, attempt.key);
  if (result.kind === 'not_now')
    await deps.pace.hold(Math.min(result.retryAfterMs ?? MIN_HOLD_MS, MAX_HOLD_MS));
  await settle(deps, attempt, result);
}

/** How long others wait after one was told to; quotas of a day are left to each batch's own next run. */
const MIN_HOLD_MS = 1_000;
const MAX_HOLD_MS = 10_000;

async function giveUp({ db, clock, log }: SendDeps, { lease, mails }: Batch): Promise<void> {
  const settled = mails.map(
    ({ id, attempts }): Settled => ({ id, attempts, state: 'not_configured', isUnsent: false }),
  );
  const done = await settleMails(db, lease, settled, clock.now());
  log.info({ emailIds: [...done] }, 'mails not sent: no provider is configured');
}

type Written = { readonly mail: DueMail; readonly rendered: RenderedEmail };

/**
 * Writes the mails and parks what cannot be sent: mail by mail as long as nothing went out, all of them where the
 * batch can no longer be repeated as it was.
 */
async function compose(deps: SendDeps, batch: Batch): Promise<readonly Written[]> {
  const { firstAttemptAt, lease } = batch;
  const now = deps.clock.now();
  const isStale = ({ createdAt }: DueMail) => now.getTime() - createdAt.getTime() > STALE_MS;
  const written: Written[] = [];
  const bad: { mail: DueMail; reason: string }[] = [];
  // What has been tried is repeated as it was, also with what was parked by hand since.
  const mails = firstAttemptAt === null ? batch.mails.filter(({ isPending }) => isPending) : batch.mails;
  // React and what it needs are loaded at the first mail; a process that sends none does without.
  const { renderEmail } = await import('./render.ts');
  const write = (template: string, data: unknown) => renderEmail(template, data, deps.context);
  for (const mail of mails) {
    const rendered = await renderOne(mail, write);
    if (typeof rendered === 'string') bad.push({ mail, reason: rendered });
    else if (firstAttemptAt === null && isStale(mail)) bad.push({ mail, reason: STALE });
    else written.push({ mail, rendered });
  }
  if (firstAttemptAt !== null) {
    const isOver = now.getTime() - firstAttemptAt.getTime() > KEY_TRUSTED_MS;
    const reason = isOver
      ? UNCERTAIN
      : mails.every(isStale)
        ? STALE
        : bad[0] && `${bad[0].reason}. ${MAY_BE_OUT}`;
    if (reason !== undefined) {
      await park(
        deps,
        lease,
        mails.map((mail) => ({ mail, reason })),
      );
      return [];
    }
  }
  if (bad.length > 0) await park(deps, lease, bad);
  return written;
}

const MAY_BE_OUT = 'An earlier attempt may have sent it; look it up at the provider before sending it again';
const UNCERTAIN =
  'May have gone out more than 23 hours ago; look it up at the provider before sending it again';
const STALE = 'Not accepted for three days';

/** The mail, or what is wrong with its row. */
async function renderOne(
  mail: DueMail,
  write: (template: string, data: unknown) => Promise<RenderedEmail>,
): Promise<RenderedEmail | string> {
  if (!isEmailAddress(mail.to)) return 'The address is none';
  try {
    return await write(mail.template, mail.data);
  } catch (error) {
    return `Cannot be written: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function park(
  { db, clock, log }: SendDeps,
  lease: string,
  bad: readonly { mail: DueMail; reason: string }[],
): Promise<void> {
  const settled = bad.map(
    ({ mail: { id, attempts }, reason }): Settled => ({
      id,
      attempts,
      state: 'parked',
      error: reason,
      isUnsent: false,
    }),
  );
  const done = await settleMails(db, lease, settled, clock.now());
  for (const { mail } of bad)
    if (done.has(mail.id))
      log.warn(
        { emailId: mail.id, template: mail.template, code: 'not_sendable' },
        'mail parked for a person',
      );
}

async function begin(
  { db, clock }: SendDeps,
  { lease, id, firstAttemptAt }: Batch,
  written: readonly Written[],
): Promise<Attempt | null> {
  const mails = written.map(({ mail }) => mail);
  const [first] = mails;
  if (first === undefined) return null;
  const now = clock.now();
  // A mail that goes by itself has the key that every version of ours has sent it with.
  const own = mails.length === 1 ? first.id : uuidv7(now);
  // Until the provider may have heard of them, they have no key that could be of other mails.
  const key = firstAttemptAt === null ? own : (id ?? own);
  const ids = mails.map((mail) => mail.id);
  if (!(await beginBatch(db, { lease, ids, batchId: key, now }))) return null;
  return {
    lease,
    key,
    isAlone: key === first.id && mails.length === 1,
    isFirst: firstAttemptAt === null,
    isPart: firstAttemptAt === null && id !== null,
    mails: mails.map((mail) => ({ ...mail, attempts: mail.attempts + 1 })),
  };
}

async function settle({ db, clock, log }: SendDeps, attempt: Attempt, result: SendResult): Promise<void> {
  const now = clock.now();
  const pending = new Set(attempt.mails.flatMap(({ id, isPending }) => (isPending ? [id] : [])));
  const settled = becomesOf(attempt, result, () => uuidv7(now)).filter(({ id }) => pending.has(id));
  const done = await settleMails(db, attempt.lease, settled, now);
  const { key: batchId } = attempt;
  const emailIds = settled.flatMap(({ id }) => (done.has(id) ? [id] : []));
  if (emailIds.length < settled.length)
    log.warn({ batchId }, 'a batch was lost while it was under way; who has it now repeats it');
  else if (result.kind === 'accepted') log.info({ batchId, emailIds }, 'mails sent');
  else if (settled.every(({ state }) => state === 'parked'))
    log.warn({ batchId, emailIds, code: result.code }, 'mails parked for a person');
  else log.info({ batchId, emailIds, code: result.code }, 'mails to be sent later');
}

import type { Tx } from '../../database/connection.ts';
import { lockLeasedAccount } from '../../database/locks.ts';
import { raise } from '../alarm.ts';
import type { Alarm, SyncDeps } from '../deps.ts';
import type { Difference } from '../repair/drift.ts';
import { undone, withoutEffect } from '../repair/dry-run.ts';
import { type AccountLease, begin, confirmLease, finish, LeaseLost, prove } from './account-lease.ts';
import { type Acts, act } from './act.ts';
import { type Cause, sourceOf } from './cause.ts';
import type { Source } from './effects.ts';
import { look, type Seen } from './look.ts';
import { type Ours, readOurs } from './ours.ts';
import { answersOf, confirming, Unanswered } from './remembered.ts';
import { write } from './write.ts';

/** What one pass came to: events to be tried again, and what it found to differ where it was to compare. */
export type Outcome = { failures: Failures; differences: readonly Difference[] };

/** `wanted`: what is done by that. */
export type Passed = Outcome & { wanted: string };

/** Events to be tried again, each with the reason why it could not be carried out. */
export type Failures = ReadonlyMap<string, string>;

/**
 * How a pass goes about it: with these events only (null: all that wait), or only to see what it would change, for
 * how long it may ask Stripe, and whether it keeps the lease, for the one who called it to `finish`.
 */
export type Terms = { only: readonly string[] | null; dryRun: boolean; stripeMs: number; keeps: boolean };

/** What was read for may have changed before it was written so often, until it is left to the next pass. */
const MOST_LOOKS = 3;
/** So many calls may turn out to be missing while something is written. */
const MOST_MISSING = 50;

/**
 * One look at an account, by whoever has its lease: reads our rows and then Stripe with nothing held, does at Stripe
 * what is to be done there, and writes all of it in one short transaction that proves the lease. What the writing
 * wants to know of Stripe beyond that is asked with nothing held, and the writing begun again. So whoever writes has
 * read after everything that was written before, and nobody waits for Stripe with something in the hand.
 *
 * Beside the claim, which many accounts share, a first subscription takes 10 statements: ours, its prices, and then
 * begin, lock, row, 2 for audit entries, customer's event and mail, events, lease, commit. An
 * event that changes nothing takes 7, and nothing pending 2 and no call. A dry run does all of it except for what
 * would change something at Stripe, and is rolled back.
 */
export async function pass(deps: SyncDeps, lease: AccountLease, cause: Cause, terms: Terms): Promise<Passed> {
  const { db, gateway } = deps;
  const calls = gateway.within(terms.stripeMs, cause.kind === 'checkout_session' ? 'person' : 'work');
  const stripe = terms.dryRun ? withoutEffect(calls) : confirming(calls, () => confirmLease(db, lease));
  // What was done at Stripe for the sake of a look that came to nothing has been done all the same.
  const alarms: Alarm[] = [];
  for (let looks = 1; looks <= MOST_LOOKS; looks += 1) {
    const em = db.orm.em.fork();
    const { wanted, ...ours } = await readOurs(db, em, lease.accountId, terms.only);
    begin(lease, wanted);
    const source = sourceOf(cause, ours.events.at(-1)?.id);
    const now = deps.clock.now();
    const isIdle = ours.events.length === 0 && cause.kind === 'events';
    if (isIdle) {
      if (!terms.keeps) await finish(em, lease, { wanted, failed: null });
      return { failures: new Map(), differences: [], wanted };
    }
    const seen = await look({ em, stripe, ours, cause, now });
    const acts = await act({ em, stripe, account: ours.account, cause, source }, seen);
    alarms.push(...acts.alarms);
    const written = await writeShortly(
      { deps, lease, cause, terms, wanted, ours, source, now, seen, acts },
      stripe,
    );
    if (written === null) continue;
    const passed = { ...written.outcome, wanted };
    if (terms.dryRun) return passed;
    for (const alarm of [...alarms, ...written.alarms]) raise(deps, lease.accountId, alarm);
    for (const eventId of written.givenUp) {
      deps.log.error({ eventId }, 'a Stripe event was given up; replay it once the reason is gone');
    }
    return passed;
  }
  throw new Error(`Account ${lease.accountId} was changed each time that Stripe was read for it`);
}

type Writing = {
  deps: SyncDeps;
  lease: AccountLease;
  cause: Cause;
  terms: Terms;
  wanted: string;
  ours: Ours;
  source: Source;
  now: Date;
  seen: Seen;
  acts: Acts;
};

type Written = { outcome: Outcome; alarms: readonly Alarm[]; givenUp: readonly string[] };

/** Writes, as often as something is missing; null where our side is otherwise by now, and nothing was written. */
async function writeShortly(
  writing: Writing,
  stripe: Parameters<typeof answersOf>[0],
): Promise<Written | null> {
  const { deps, lease, terms, ours, wanted } = writing;
  const { accountId } = lease;
  const answers = answersOf(stripe);
  const attempt = async (tx: Tx): Promise<Written | null> => {
    const locked = await lockLeasedAccount(tx, accountId, lease.lease);
    if (locked === null || lease.signal.aborted) throw new LeaseLost();
    const { account, heldVersion } = locked;
    const isSame =
      (account.stripeCustomerId ?? null) === (ours.account.stripeCustomerId ?? null) &&
      heldVersion === (ours.held?.version ?? null);
    if (!isSame) return null;
    const alarms: Alarm[] = [];
    const written = await write({ ...writing, tx, stripe: answers.calls(), account, alarms });
    const failed = written.outcome.failures.values().next().value ?? null;
    if (terms.keeps) await prove(tx, lease);
    else await finish(tx, lease, { wanted, failed });
    return { ...written, alarms };
  };
  for (let missing = 0; missing <= MOST_MISSING; missing += 1) {
    try {
      return terms.dryRun
        ? await undone(deps.db, accountId, attempt)
        : await deps.db.transactionOn(accountId, attempt);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      await answers.learn(error);
    }
  }
  throw new Error(`Writing for account ${accountId} asks Stripe for more and more`);
}

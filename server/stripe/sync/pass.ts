import { raise } from '../alarm.ts';
import type { Alarm, SyncDeps } from '../deps.ts';
import type { Difference } from '../repair/drift.ts';
import { withoutEffect } from '../repair/dry-run.ts';
import { type AccountLease, begin, confirmLease, finish } from './account-lease.ts';
import { act } from './act.ts';
import { type Cause, sourceOf } from './cause.ts';
import { look } from './look.ts';
import { readOurs } from './ours.ts';
import { answersOf, confirming, Unanswered } from './remembered.ts';
import { type Writing, type Written, writePass } from './write-passes.ts';

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
 * Beside the claim, which many accounts share, a first subscription takes 7 statements: ours, and then begin, lock, 2
 * for audit entries, customer's event and mail, one for row, events and lease, commit. An event that changes nothing
 * takes 5, and nothing pending 2 and no call. A dry run does all of it except for what would change something at
 * Stripe, and is rolled back.
 */
export async function pass(deps: SyncDeps, lease: AccountLease, cause: Cause, terms: Terms): Promise<Passed> {
  const { db, gateway } = deps;
  const calls = gateway.within(terms.stripeMs, cause.kind === 'checkout_session' ? 'person' : 'work');
  const stripe = terms.dryRun ? withoutEffect(calls) : confirming(calls, () => confirmLease(db, lease));
  // What was done at Stripe for the sake of a look that came to nothing has been done all the same.
  const alarms: Alarm[] = [];
  for (let looks = 1; looks <= MOST_LOOKS; looks += 1) {
    const { wanted, ...ours } = await readOurs(db, lease.accountId, terms.only);
    begin(lease, wanted);
    const source = sourceOf(cause, ours.events.at(-1)?.id);
    const now = deps.clock.now();
    const isIdle = ours.events.length === 0 && cause.kind === 'events';
    if (isIdle) {
      if (!terms.keeps) await finish(db, lease, { wanted, failed: null });
      return { failures: new Map(), differences: [], wanted };
    }
    const em = db.orm.em.fork();
    const seen = await look({ db, em, stripe, ours, cause, now });
    const acts = await act({ em, stripe, account: ours.account, cause, source }, seen);
    alarms.push(...acts.alarms);
    const answers = answersOf(stripe);
    const written = await writeShortly({
      ...{ db, lease, cause, keeps: terms.keeps, dryRun: terms.dryRun, wanted },
      ...{ ours, source, now, seen, acts, answers },
    });
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

/** Writes, as often as something is missing; null where our side is otherwise by now, and nothing was written. */
async function writeShortly(writing: Writing): Promise<Written | null> {
  for (let missing = 0; missing <= MOST_MISSING; missing += 1) {
    try {
      return await writePass(writing);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      await writing.answers.learn(error);
    }
  }
  throw new Error(`Writing for account ${writing.lease.accountId} asks Stripe for more and more`);
}

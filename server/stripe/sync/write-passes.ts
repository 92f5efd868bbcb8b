import type { Database, Tx } from '../../database/connection.ts';
import { groupCommit } from '../../database/group-commit.ts';
import { type Leased, lockLeasedAccounts } from '../../database/locks.ts';
import { isDatabaseError } from '../../database/origin.ts';
import { writeDown } from '../../journal/write-down.ts';
import type { Alarm } from '../deps.ts';
import { undone } from '../repair/dry-run.ts';
import { type AccountLease, LeaseLost, noteFinished, prove } from './account-lease.ts';
import { finishPasses } from './finish-passes.ts';
import type { Outcome } from './pass.ts';
import type { Answers } from './remembered.ts';
import { nothingLearned, rememberPrices } from './subscription/prices.ts';
import { compare, decideFates, type Fates, type Recorded, record, type Write } from './write.ts';

/** A pass that has read and acted, and is ready to be written. */
export type Writing = Pick<Write, 'ours' | 'seen' | 'acts' | 'cause' | 'source' | 'now'> & {
  readonly db: Database;
  readonly lease: AccountLease;
  /** Whether the lease is kept, for the one who called it to `finish`. */
  readonly keeps: boolean;
  readonly dryRun: boolean;
  readonly wanted: string;
  readonly answers: Answers;
};

export type Written = {
  readonly outcome: Outcome;
  readonly alarms: readonly Alarm[];
  readonly givenUp: readonly string[];
};

/**
 * Writes a pass in a transaction that proves its lease; null, and nothing written, where our side is otherwise by now
 * than it was read. Throws `LeaseLost`, and `Unanswered` where it wants to know something of Stripe first.
 *
 * Passes that are ready while another one is being written share the next transaction. Each of them has its own lease
 * and costs the others nothing: what is locked by somebody else is not waited for, what asks for more is left out, and
 * where the transaction fails, each of them is written alone.
 */
export async function writePass(writing: Writing): Promise<Written | null> {
  const { db, lease, cause, keeps, dryRun } = writing;
  const alone = async (tx: Tx): Promise<Written | null> => {
    const written = (await writePasses(tx, [writing], { waits: true })).get(writing);
    if (written === undefined) throw new LeaseLost();
    return written;
  };
  if (dryRun) return await undone(db, lease.accountId, alone);
  if (keeps || cause.kind === 'reconcile') return await db.transactionOn(lease.accountId, alone);
  return await db.turnOn(lease.accountId, async () => {
    const answer = await lineOf(db)(writing);
    if (answer === 'alone') return await db.transaction(alone);
    if ('error' in answer) throw answer.error;
    return answer.written;
  });
}

/** As many as are looked at side by side; so many cost two thirds of the processor time of ten at a time. */
const MOST = 32;

type Answer = { readonly written: Written | null } | { readonly error: unknown } | 'alone';

const lines = new WeakMap<Database, (writing: Writing) => Promise<Answer>>();

function lineOf(db: Database): (writing: Writing) => Promise<Answer> {
  const line =
    lines.get(db) ?? groupCommit({ atOnce: 1, most: MOST, write: (group) => writeGroup(db, group) });
  lines.set(db, line);
  return line;
}

async function writeGroup(db: Database, group: readonly Writing[]): Promise<Answer[]> {
  const answers = new Map<Writing, Answer>();
  for (let left = group; left.length > 0; left = left.filter((writing) => !answers.has(writing))) {
    const members = left;
    try {
      const written = await db.transaction((tx) => writePasses(tx, members, { waits: false }));
      for (const one of members) {
        const its = written.get(one);
        answers.set(one, its === undefined ? 'alone' : { written: its });
      }
    } catch (error) {
      if (error instanceof LeftOut) for (const [one, why] of error.reasons) answers.set(one, { error: why });
      else for (const one of members) answers.set(one, group.length === 1 ? { error } : 'alone');
    }
  }
  return group.map((writing) => answers.get(writing) ?? 'alone');
}

/** Some of a group could not be recorded, mostly because they want to know more of Stripe: nothing was written. */
class LeftOut extends Error {
  override readonly name = 'LeftOut';
  readonly reasons: ReadonlyMap<Writing, unknown>;

  constructor(reasons: ReadonlyMap<Writing, unknown>) {
    super('Not all of these passes can be written yet.');
    this.reasons = reasons;
  }
}

/**
 * Writes passes over several accounts, whatever their number by the same few statements, and lets go of the accounts.
 * Null for one whose account is otherwise by now than it was read. Nothing is answered for one whose account somebody
 * else has, nor, unless it `waits`, for one whose account is locked at the moment.
 */
async function writePasses(
  tx: Tx,
  writings: readonly Writing[],
  { waits }: { waits: boolean },
): Promise<ReadonlyMap<Writing, Written | null>> {
  const leases = writings.map(({ lease }) => lease);
  const locked = await lockLeasedAccounts(tx, leases, { waits });
  const answers = new Map<Writing, Written | null>();
  const members: Member[] = [];
  const leftOut = new Map<Writing, unknown>();
  for (const writing of writings) {
    const leased = locked.get(writing.lease.accountId);
    if (!leased || writing.lease.signal.aborted) continue;
    try {
      if (isAsRead(writing, leased)) members.push(await memberOf(tx, writing, leased));
      else answers.set(writing, null);
    } catch (error) {
      // After that the transaction takes no statement any more.
      if (writings.length === 1 || isDatabaseError(error)) throw error;
      leftOut.set(writing, error);
    }
  }
  // What one of them has written by then must not stay.
  if (leftOut.size > 0) throw new LeftOut(leftOut);
  const drafts = members.flatMap(({ recorded }) => recorded.drafts);
  await writeDown(tx, drafts);
  const ended: Ended[] = [];
  for (const member of members) ended.push({ ...member, ...(await fatesOf(member)) });
  await finish(tx, ended);
  for (const { writing, write, differences, fates } of ended) {
    const { failures, givenUp } = fates;
    answers.set(writing, { outcome: { failures, differences }, alarms: write.alarms, givenUp });
  }
  return answers;
}

function isAsRead({ ours }: Writing, { account, heldVersion }: Leased): boolean {
  return (
    account.stripeCustomerId === ours.account.stripeCustomerId &&
    // Set by staff since then: what was read of Stripe before must not undo it.
    account.stripeEmail === ours.account.stripeEmail &&
    heldVersion === (ours.held?.version ?? null)
  );
}

type Member = { readonly writing: Writing; readonly write: Write; readonly recorded: Recorded };

async function memberOf(tx: Tx, writing: Writing, { account }: Leased): Promise<Member> {
  const write = { ...writing, tx, stripe: writing.answers.calls(), account, alarms: [] };
  return { writing, write, recorded: await record(write) };
}

type Ended = Member & { readonly fates: Fates; readonly differences: Outcome['differences'] };

async function fatesOf({ write, recorded }: Member): Promise<Pick<Ended, 'fates' | 'differences'>> {
  const { tx, now: at } = write;
  const { row, before, failed } = recorded;
  if (before === null) return { fates: await decideFates(write, failed), differences: [] };
  if (row) await finishPasses(tx, { rows: [row], done: [], at, ends: [] });
  const { differences, drafts } = await compare(write, before);
  await writeDown(tx, drafts);
  return { fates: await decideFates(write, failed), differences };
}

/** What is left to be written, with the proof that every lease is still what it was: else nothing of it stays. */
async function finish(tx: Tx, ended: readonly Ended[]): Promise<void> {
  const [first] = ended;
  if (!first) return;
  await tx.flush();
  const ends = ended.flatMap(({ writing: { lease, keeps, wanted }, fates }) => {
    const [failed = null] = fates.failures.values();
    return keeps ? [] : [{ accountId: lease.accountId, lease: lease.lease, wanted, failed }];
  });
  const finished = await finishPasses(tx, {
    rows: ended.flatMap(({ recorded: { row, before } }) => (row && before === null ? row : [])),
    done: ended.flatMap(({ fates }) => fates.done),
    at: first.writing.now,
    ends,
  });
  if (finished.size < ends.length) throw new LeaseLost();
  for (const { writing } of ended) {
    if (writing.keeps) await prove(tx, writing.lease);
    else noteFinished(writing.lease);
  }
  const learned = nothingLearned();
  for (const { plans, packs } of ended.map(({ writing }) => writing.seen.learned)) {
    for (const [id, meaning] of plans) learned.plans.set(id, meaning);
    for (const id of packs) learned.packs.add(id);
  }
  await rememberPrices(tx, learned, first.writing.now);
}

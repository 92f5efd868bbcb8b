import type { Database, Tx } from '../database/connection.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import { enqueue } from '../database/jobs.ts';
import { lockAccount, lockTrialPack } from '../database/locks.ts';
import { noteExpiring } from './notices.ts';
import { recordChange } from './record.ts';
import { creditCentsRemaining, noticeDueAt, spendableSeconds } from './rules.ts';

/** Sets up the one job that looks after the end of a pack; it sets up its own next run. */
export async function scheduleExpiry(tx: Tx, pack: TrialPack, now: Date): Promise<void> {
  const { accountId, expiresAt } = pack;
  const noticeAt = noticeDueAt(expiresAt);
  const dueAt = now < noticeAt ? noticeAt : expiresAt;
  // A job that came a little early by another machine's clock must not chase itself until its time comes.
  const soonest = new Date(now.getTime() + MINUTE_MS);
  const startAfter = dueAt < soonest ? soonest : dueAt;
  await enqueue(tx, 'trial-pack-expiry', { accountId }, { startAfter });
}

const MINUTE_MS = 60_000;

/**
 * The `trial-pack-expiry` job: a day before the end it tells the customer of unspent credit, at the end it
 * closes the ledger. Safe to run at any time and any number of times. Reading a balance never waits for it,
 * because spending looks at the clock.
 */
export async function expireTrialPack(
  { db, clock }: { db: Database; clock: { now(): Date } },
  accountId: string,
): Promise<'expired' | 'noticed' | 'waiting' | 'nothing_to_do'> {
  return await db.transactionOn(accountId, async (tx) => {
    const account = await lockAccount(tx, accountId);
    const pack = await lockTrialPack(tx, accountId);
    if (!account || !pack || pack.state === 'revoked' || pack.state === 'expired') return 'nothing_to_do';
    const now = clock.now();
    if (now >= pack.expiresAt) {
      const after = { state: 'expired', remainingSeconds: 0 } as const;
      await recordChange(tx, { pack, after, facts: null, cause: {} }, now);
      return 'expired';
    }
    await scheduleExpiry(tx, pack, now);
    if (now < noticeDueAt(pack.expiresAt)) return 'waiting';
    const seconds = spendableSeconds(pack, now);
    if (seconds === 0) return 'waiting';
    return (await noteExpiring(tx, pack, creditCentsRemaining(seconds), now)) ? 'noticed' : 'waiting';
  });
}

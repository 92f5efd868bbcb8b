import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { type Crew, startCrew } from '../database/crew.ts';
import { TrialPack } from '../database/entities/billing.ts';
import { lockAccount, lockTrialPack } from '../database/locks.ts';
import type { Log } from '../database/log.ts';
import { databaseNow } from '../database/now.ts';
import { noteExpiring } from './notices.ts';
import { recordChange } from './record.ts';
import { creditCentsRemaining, noticeDueAt, spendableSeconds } from './rules.ts';

/** Writes down when the end of a pack, or the notice of it, is to be looked after; that writes down the next time. */
export async function scheduleExpiry(tx: Tx, { id, expiresAt }: TrialPack, now: Date): Promise<void> {
  const noticeAt = noticeDueAt(expiresAt);
  const dueAt = now < noticeAt ? noticeAt : expiresAt;
  // Whoever comes a little early by another machine's clock must not chase himself until the time comes.
  const soonest = new Date(now.getTime() + MINUTE_MS);
  await tx.nativeUpdate(TrialPack, { id }, { dueAt: dueAt < soonest ? soonest : dueAt });
}

const MINUTE_MS = 60_000;

/**
 * What is done when a pack is due: a day before the end the customer is told of unspent credit, at the end the
 * ledger is closed. Safe to run at any time and any number of times. Reading a balance never waits for it,
 * because spending looks at the clock.
 */
export async function expireTrialPack(
  { db, clock }: { db: Database; clock: Pick<Clock, 'now'> },
  accountId: string,
): Promise<'expired' | 'noticed' | 'waiting' | 'nothing_to_do'> {
  return await db.transactionOn(accountId, async (tx) => {
    const account = await lockAccount(tx, accountId);
    const pack = await lockTrialPack(tx, accountId);
    if (!account || !pack) return 'nothing_to_do';
    if (pack.state === 'revoked' || pack.state === 'expired') {
      await tx.nativeUpdate(TrialPack, { id: pack.id }, { dueAt: null });
      return 'nothing_to_do';
    }
    const now = clock.now();
    if (now >= pack.expiresAt) {
      const after = { state: 'expired', remainingSeconds: 0 } as const;
      await recordChange(tx, { pack, after, facts: null, cause: {} }, now);
      await tx.nativeUpdate(TrialPack, { id: pack.id }, { dueAt: null });
      return 'expired';
    }
    await scheduleExpiry(tx, pack, now);
    if (now < noticeDueAt(pack.expiresAt)) return 'waiting';
    const seconds = spendableSeconds(pack, now);
    if (seconds === 0) return 'waiting';
    return (await noteExpiring(tx, pack, creditCentsRemaining(seconds), now)) ? 'noticed' : 'waiting';
  });
}

const PLACES = 4;

/**
 * Looks after the ends of packs as they fall due. To take one moves it a minute ahead: whoever dies with it in hand
 * is followed by another then.
 */
export function startExpiry({ db, clock, log }: { db: Database; clock: Clock; log: Log }): Crew {
  return startCrew<string>({
    name: 'trial packs',
    places: PLACES,
    async claim(limit) {
      const { rows } = await db.pool.query<{ id: string }>({
        name: 'claim-trial-packs',
        text: CLAIM,
        values: [aheadOf(clock), limit],
      });
      return rows.map(({ id }) => id);
    },
    async work(accountId) {
      // Those who spend go by this clock, so the end has to be written down by it as well.
      const now = await databaseNow(db, clock);
      await expireTrialPack({ db, clock: { now: () => now } }, accountId);
    },
    renew: async () => [],
    log,
  });
}

const THEIR_NOW = "now() + $1 * interval '1 millisecond'";
const CLAIM = `with due as (
  select id from trial_pack where due_at <= ${THEIR_NOW} order by due_at limit $2 for no key update skip locked)
update trial_pack p set due_at = ${THEIR_NOW} + interval '1 minute' from due where p.id = due.id
returning p.account_id as id`;

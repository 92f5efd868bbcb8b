import { ProblemError } from '../../shared/errors.ts';
import type { Tx } from '../database/connection.ts';
import { TrialPack } from '../database/entities/billing.ts';
import { CreditEntry, type CreditOutcome, CreditReservation } from '../database/entities/credit.ts';
import { uuidv7 } from '../database/uuid.ts';
import { lockPack } from './locked-pack.ts';
import { answerOf, isSameUse, lockExisting, type SpendingDeps, take, type UseAnswer } from './report-use.ts';
import { outcomeOf, takeableSeconds } from './spending.ts';

/** Credit a session wants to be sure of. */
export type Wish = {
  accountId: string;
  reservationId: string;
  sessionId: string;
  seconds: number;
  holdSeconds: number;
};

export type ReserveAnswer = { reservedSeconds: number; expiresAt: Date | null; outcome: CreditOutcome };

/**
 * Holds as much of the credit as is free, up to what is asked for, until it is settled, released or its time is
 * over, which nobody has to do anything for. The same wish gives the same answer again; another one under the
 * same id throws `reservation_id_reused`. Locks the pack alone.
 */
export async function reserve({ db, clock }: SpendingDeps, wish: Wish): Promise<ReserveAnswer> {
  const { accountId, reservationId, sessionId, seconds, holdSeconds } = wish;
  return await db.transaction(async (tx) => {
    const pack = await lockPack(tx, accountId, clock);
    const earlier = await tx.findOne(CreditReservation, { reservationKey: reservationId });
    if (earlier) return answerAgain(earlier, wish);
    const heldSeconds = Math.min(seconds, takeableSeconds(pack));
    const holdEndMs = Math.min(pack.at.getTime() + holdSeconds * 1_000, pack.expiresAt.getTime());
    const reservation = {
      id: uuidv7(pack.at),
      accountId,
      reservationKey: reservationId,
      sessionId,
      requestedSeconds: seconds,
      forSeconds: holdSeconds,
      heldSeconds,
      outcome: heldSeconds > 0 ? 'active' : outcomeOf(pack),
      state: heldSeconds > 0 ? 'held' : 'released',
      createdAt: pack.at,
      expiresAt: new Date(holdEndMs),
    } as const;
    const inserted = await tx
      .createQueryBuilder(CreditReservation)
      .insert(reservation)
      .onConflict('reservationKey')
      .ignore()
      .returning('id')
      .execute('all');
    // Another account's pack is another lock, so the same id for both at once shows only here.
    if (inserted.length === 0) throw reused();
    await tx.nativeUpdate(TrialPack, { id: pack.id }, { heldSeconds: pack.heldSeconds + heldSeconds });
    return answer(reservation);
  });
}

export type Settlement = { accountId: string; reservationId: string; seconds: number; usedAt: Date };

/**
 * Takes what a session used from what it had reserved, and beyond that from what is free, and frees the rest.
 * After its time it is like any other use. The same settlement gives the same answer again; another one throws
 * `report_id_reused`, and one of a released reservation `reservation_closed`.
 */
export async function settleReservation(
  { db, clock }: SpendingDeps,
  settlement: Settlement,
): Promise<UseAnswer> {
  const { accountId, reservationId, seconds, usedAt } = settlement;
  const reportKey = `settle:${reservationId}`;
  return await db.transactionOn(accountId, async (tx) => {
    await lockExisting(tx, accountId);
    const pack = await lockPack(tx, accountId, clock);
    const reservation = await find(tx, settlement);
    const entry = await tx.findOne(CreditEntry, { reportKey });
    if (entry && isSameUse(entry, settlement)) return answerOf(entry);
    if (entry) {
      throw new ProblemError('conflict', 'This reservation was settled with other use.', {
        code: 'report_id_reused',
      });
    }
    if (reservation.state === 'released') {
      throw new ProblemError('conflict', 'This reservation was released. Report its use without it.', {
        code: 'reservation_closed',
      });
    }
    const ownSeconds = reservation.state === 'held' ? reservation.heldSeconds : 0;
    await tx.nativeUpdate(CreditReservation, { id: reservation.id }, { state: 'settled' });
    await tx.nativeUpdate(TrialPack, { id: pack.id }, { heldSeconds: pack.heldSeconds - ownSeconds });
    const { sessionId } = reservation;
    return await take(tx, pack, { sessionId, seconds, usedAt, reportKey, ownSeconds });
  });
}

/**
 * Frees a reservation of which nothing was used, and returns how much it held; 0 when its time was over. Again
 * gives the same answer; after a settlement it throws `reservation_closed`. Locks the pack alone.
 */
export async function releaseReservation(
  { db, clock }: SpendingDeps,
  release: { accountId: string; reservationId: string },
): Promise<number> {
  return await db.transaction(async (tx) => {
    const pack = await lockPack(tx, release.accountId, clock);
    const { id, state, heldSeconds } = await find(tx, release);
    switch (state) {
      case 'released':
        return heldSeconds;
      case 'lapsed':
        return 0;
      case 'settled':
        throw new ProblemError('conflict', 'This reservation was settled already.', {
          code: 'reservation_closed',
        });
      case 'held': {
        await tx.nativeUpdate(CreditReservation, { id }, { state: 'released' });
        await tx.nativeUpdate(TrialPack, { id: pack.id }, { heldSeconds: pack.heldSeconds - heldSeconds });
        return heldSeconds;
      }
    }
  });
}

/** Another account's reservation is none of this account's. */
async function find(
  tx: Tx,
  { accountId, reservationId }: { accountId: string; reservationId: string },
): Promise<CreditReservation> {
  const reservation = await tx.findOne(CreditReservation, { reservationKey: reservationId, accountId });
  if (!reservation) throw new ProblemError('not-found', 'This account has no such reservation.');
  return reservation;
}

function answerAgain(earlier: CreditReservation, wish: Wish): ReserveAnswer {
  const isSame =
    earlier.accountId === wish.accountId &&
    earlier.sessionId === wish.sessionId &&
    earlier.requestedSeconds === wish.seconds &&
    earlier.forSeconds === wish.holdSeconds;
  if (isSame) return answer(earlier);
  throw reused();
}

function reused(): ProblemError {
  return new ProblemError('conflict', 'This reservation_id was used for another reservation.', {
    code: 'reservation_id_reused',
  });
}

type Reserved = Pick<CreditReservation, 'heldSeconds' | 'expiresAt' | 'outcome'>;

function answer({ heldSeconds, expiresAt, outcome }: Reserved): ReserveAnswer {
  return { reservedSeconds: heldSeconds, expiresAt: heldSeconds > 0 ? expiresAt : null, outcome };
}

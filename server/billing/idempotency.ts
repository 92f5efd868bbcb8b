import { createHash } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { IdempotencyKey } from '../database/entities/account.ts';
import type { MintingCall } from './deps.ts';

/** A call under an Idempotency-Key; null stands for a call without one. */
export type Claim = {
  readonly accountId: string;
  readonly key: string;
  readonly route: string;
  readonly requestHash: Buffer;
} | null;

export type Earlier = Readonly<Record<string, unknown>>;

/** How long a call may run before its key counts as left behind by a process that died. */
const LOCK_MS = 60_000;
/** As long as Stripe keeps its own. */
const KEPT_MS = 24 * 3_600_000;

/** What a call claims: its key, bound to the route and to everything it asks for. */
export function claimOf(call: MintingCall, route: string, request: unknown): Claim {
  const { accountId, idempotencyKey: key } = call;
  if (key === null) return null;
  const requestHash = createHash('sha256')
    .update(JSON.stringify([route, request]))
    .digest();
  return { accountId, key, route, requestHash };
}

/**
 * Claims the key for this call, or returns the answer it was given before. Throws 409 when the key stands for
 * another request, or when the call it stands for is still running. What the caller throws gives it back.
 */
export async function claim(tx: Tx, wanted: Claim, now: Date): Promise<Earlier | null> {
  if (wanted === null) return null;
  const fresh = {
    ...wanted,
    state: 'running' as const,
    status: null,
    response: null,
    lockedUntil: new Date(now.getTime() + LOCK_MS),
    createdAt: now,
  };
  const inserted = await tx
    .createQueryBuilder(IdempotencyKey)
    .insert(fresh)
    .onConflict(['accountId', 'key'])
    .ignore()
    .returning('key')
    .execute('all');
  if (inserted.length > 0) return null;

  const { accountId, key } = wanted;
  const held = await tx.findOneOrFail(IdempotencyKey, { accountId, key }, { refresh: true });
  if (now.getTime() - held.createdAt.getTime() < KEPT_MS) {
    if (!Buffer.from(held.requestHash).equals(wanted.requestHash)) throw reused();
    if (held.state === 'done' && held.response) return held.response;
    if (held.lockedUntil > now) throw inUse();
  }
  await tx.nativeUpdate(IdempotencyKey, { accountId, key }, fresh);
  return null;
}

/** The answer that was given under this key, without claiming it. Throws 409 when the key stands for another request. */
export async function earlierAnswer(db: Database, wanted: Claim, now: Date): Promise<Earlier | null> {
  if (wanted === null) return null;
  const { accountId, key, requestHash } = wanted;
  const held = await db.orm.em.fork().findOne(IdempotencyKey, { accountId, key });
  if (!held || now.getTime() - held.createdAt.getTime() >= KEPT_MS) return null;
  if (!Buffer.from(held.requestHash).equals(requestHash)) throw reused();
  return held.response ?? null;
}

const FORGET_AT_ONCE = 1_000;

/** Deletes the keys whose day is over, a thousand in each statement. */
export async function forgetOldKeys({ db, clock }: { db: Database; clock: Clock }): Promise<void> {
  const before = new Date(clock.now().getTime() - KEPT_MS);
  for (let deleted: number | null = FORGET_AT_ONCE; deleted === FORGET_AT_ONCE; ) {
    ({ rowCount: deleted } = await db.pool.query(
      `delete from idempotency_key where (account_id, key) in (
        select account_id, key from idempotency_key where created_at < $1 limit $2 for update skip locked)`,
      [before, FORGET_AT_ONCE],
    ));
  }
}

/** Keeps the answer under the key. */
export async function answered(tx: Tx, claimed: Claim, response: Earlier): Promise<void> {
  if (claimed === null) return;
  const { accountId, key } = claimed;
  await tx.nativeUpdate(IdempotencyKey, { accountId, key }, { state: 'done', status: 200, response });
}

/** Gives the key of a failed call back, so that trying again needs no new one. */
export async function giveBack(db: Database, claimed: Claim): Promise<void> {
  if (claimed === null) return;
  const { accountId, key, requestHash } = claimed;
  await db.orm.em.fork().nativeDelete(IdempotencyKey, { accountId, key, requestHash, state: 'running' });
}

/** Throws 409 when this process is still busy with a call under the same key; ends with the work. */
export async function whileClaimed<T>(claimed: Claim, work: () => Promise<T>): Promise<T> {
  if (claimed === null) return await work();
  const name = `${claimed.accountId} ${claimed.key}`;
  const other = running.get(name);
  if (other) throw other.equals(claimed.requestHash) ? inUse() : reused();
  running.set(name, claimed.requestHash);
  try {
    return await work();
  } finally {
    running.delete(name);
  }
}

const running = new Map<string, Buffer>();

export const reused = () =>
  new ProblemError('conflict', 'This Idempotency-Key was used for another request. Choose a new one.', {
    code: 'idempotency_key_reused',
    idempotency_status: 'mismatch',
  });

const inUse = () =>
  new ProblemError('conflict', 'A call with this Idempotency-Key is still running. Try again shortly.', {
    code: 'idempotency_key_in_use',
    idempotency_status: 'in_progress',
    retryAfterSeconds: 2,
  });

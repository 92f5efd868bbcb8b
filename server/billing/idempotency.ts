import { createHash } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { IdempotencyKey } from '../database/entities/account.ts';
import { run, type Statement } from '../database/statement.ts';
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
 * The parts of a statement that claim a key for the account that its part `claimant` names, and for nobody where that
 * names none. A key is free that nobody has, whose day is over, or whose call must be dead. What was found under it
 * may be older than the claim that failed. Parameters 1 to 5 are `claimValues`.
 */
export const CLAIMING = `claimed as (
    insert into idempotency_key as k (account_id, key, route, request_hash, state, locked_until, created_at)
    select id, $2::text, $3::text, $4::bytea, 'running', $5::timestamptz + interval '${LOCK_MS} ms', $5
      from claimant where $2 is not null
    on conflict (account_id, key) do update
       set route = excluded.route, request_hash = excluded.request_hash, state = 'running', status = null,
           response = null, locked_until = excluded.locked_until, created_at = excluded.created_at
     where k.created_at <= $5 - interval '${KEPT_MS} ms'
        or (k.request_hash = excluded.request_hash and k.state = 'running' and k.locked_until <= $5)
    returning 1),
  found as (
    select request_hash = $4 as same, state, response, locked_until > $5 as alive
      from idempotency_key where account_id = $1 and key = $2 and created_at > $5 - interval '${KEPT_MS} ms')`;

/** What such a statement answers of the claim. Without a key there is nothing to be claimed, and it is ours. */
export const CLAIMED =
  '$2 is null or exists (select from claimed) as claimed, (select to_jsonb(f) from found f) as found';

export type Claimed = {
  readonly claimed: boolean;
  readonly found: {
    same: boolean;
    state: 'running' | 'done';
    response: Earlier | null;
    alive: boolean;
  } | null;
};

export function claimValues(
  accountId: string,
  claim: Claim,
  now: Date,
): [string, string | null, string | null, Buffer | null, Date] {
  return [accountId, claim?.key ?? null, claim?.route ?? null, claim?.requestHash ?? null, now];
}

/**
 * Whether the key is ours now, or the answer it was given before; `free` when neither, as it was given back or claimed
 * while we looked: look again. Throws 409 when it stands for another request, or when the call it stands for is still
 * running.
 */
export function claimOutcome({ claimed, found }: Claimed): 'ours' | 'free' | Earlier {
  if (claimed) return 'ours';
  if (!found) return 'free';
  if (!found.same) throw reused();
  if (found.state === 'done' && found.response) return found.response;
  if (found.alive) throw inUse();
  return 'free';
}

const CLAIM: Statement = {
  name: 'claim-key',
  text: `with claimant as (select $1::uuid as id), ${CLAIMING} select ${CLAIMED}`,
};
/** How often a key is looked at that was neither free nor taken. */
const MOST_LOOKS = 3;

/** Looks until the key is ours, for a null, or has its answer. Throws 409 as `claimOutcome` does. */
export async function untilClaimed<Row extends Claimed>(
  look: () => Promise<Row>,
): Promise<{ row: Row; earlier: Earlier | null }> {
  for (let looks = 0; looks < MOST_LOOKS; looks++) {
    const row = await look();
    const outcome = claimOutcome(row);
    if (outcome !== 'free') return { row, earlier: outcome === 'ours' ? null : outcome };
  }
  throw inUse();
}

/**
 * Claims the key for this call, or returns the answer it was given before. Throws 409 as `claimOutcome` does. What the
 * caller throws gives it back.
 */
export async function claim(tx: Tx, wanted: Claim, now: Date): Promise<Earlier | null> {
  if (wanted === null) return null;
  const { earlier } = await untilClaimed(async () => {
    const [row] = await run<Claimed>(tx, CLAIM, claimValues(wanted.accountId, wanted, now));
    if (!row) throw new Error('a select without from has one row');
    return row;
  });
  return earlier;
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

/** The same for an answer that goes with nothing else: one statement. */
export async function keepAnswer(
  db: Pick<Database, 'pool'>,
  claimed: Claim,
  response: Earlier,
): Promise<void> {
  if (claimed === null) return;
  const values = [claimed.accountId, claimed.key, response];
  await db.pool.query({ ...KEEP, values });
}

const KEEP: Statement = {
  name: 'keep-answer',
  text: `update idempotency_key set state = 'done', status = 200, response = $3 where account_id = $1 and key = $2`,
};

/** The part of a statement on an account that keeps the answer, for as many rows as `stands` has; no key, no answer. */
export const keeping = (key: number, answer: number): string => `kept as (
    update idempotency_key k set state = 'done', status = 200, response = $${answer}
      from stands where k.account_id = stands.id and k.key = $${key})`;

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

import { setTimeout as delay } from 'node:timers/promises';
import { ProblemError } from '../../../shared/errors.ts';
import type { Database, Tx } from '../../database/connection.ts';
import { CHANNEL, notifyDue } from '../../database/due.ts';
import { claimOne, RENEW_MS, renew } from '../../database/lease.ts';
import { TRIES, triedSince } from './failure.ts';
import { BACK_OFF, type End, finishAlone } from './finish-passes.ts';

/** An account that is ours alone to look at, for as long as a sign of life is given for it. */
export type AccountLease = {
  readonly accountId: string;
  readonly lease: string;
  /** Aborted once the account is lost to somebody else, or this process must end. */
  readonly signal: AbortSignal;
};

/** The account is somebody else's by now, or this process must end: nothing has been written. */
export class LeaseLost extends ProblemError {
  constructor() {
    super('internal', 'This account is being looked at by another process. Please try again shortly.', {
      status: 503,
      retryAfterSeconds: 3,
    });
  }
}

/** Gives a sign of life at once, for what must not be done without the lease. Throws `LeaseLost` where it is lost. */
export async function confirmLease(db: Database, { accountId, lease, signal }: AccountLease): Promise<void> {
  const lost = await renew(db, 'account_sync', [{ lease, key: accountId }]);
  if (signal.aborted || lost.length > 0) throw new LeaseLost();
}

/** The first look for a lease that somebody else has comes after this, and each further one after twice as long. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 200;

/**
 * Does `work` under the lease of an account, which it waits for without a connection, and lets go of it. Throws 503
 * when it does not get it in time; then `work` was never begun.
 */
export async function underLease<T>(
  db: Database,
  accountId: string,
  patienceMs: number,
  work: (lease: AccountLease) => Promise<T>,
): Promise<T> {
  const lease = await take(db, accountId, patienceMs);
  const lost = new AbortController();
  const held = { accountId, lease, signal: lost.signal };
  const signs = setInterval(() => {
    renew(db, 'account_sync', [{ lease, key: accountId }]).then(
      ([gone]) => gone && lost.abort(),
      // The database is away: so it is for whoever wants the lease, and what is written proves it anyhow.
      () => undefined,
    );
  }, RENEW_MS);
  let isOver = false;
  try {
    const result = await work(held);
    isOver = finished.has(held);
    return result;
  } finally {
    clearInterval(signs);
    // Where the database is away the lease is over by itself in a moment.
    if (!isOver) await letGo(db, held).catch(() => undefined);
  }
}

/** Leases that were let go of with what was written, as far as that was committed. */
const finished = new WeakSet<AccountLease>();

async function take(db: Database, accountId: string, patienceMs: number): Promise<string> {
  const endsAtMs = performance.now() + patienceMs;
  let isKnown = false;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const claim = await claimOne(db, 'account_sync', accountId);
    if (claim) return claim.lease;
    if (!isKnown) {
      isKnown = true;
      if (await beginRow(db, accountId)) continue;
    }
    if (performance.now() + pauseMs > endsAtMs) throw stillUnderWay();
    await delay(pauseMs);
  }
}

/** An account that nothing was ever heard of has no row yet; true where it has one now. */
async function beginRow({ pool }: Database, accountId: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    'insert into account_sync (account_id) select id from account where id = $1 on conflict (account_id) do nothing',
    [accountId],
  );
  return rowCount === 1;
}

/** What became due meanwhile, or is due as it was before, is told of: whoever looked in between was turned away. */
const LET_GO = `with free as (
  update account_sync set lease = null, leased_until = null where account_id = $1 and lease = $2 returning due_at)
select pg_notify('${CHANNEL}', 'account') from free where due_at <= now()`;

/** Nothing where it is lost. */
async function letGo({ pool }: Database, { accountId, lease }: AccountLease): Promise<void> {
  await pool.query({ name: 'let-go-of-account', text: LET_GO, values: [accountId, lease] });
}

/** What is wanted of an account: read before anything else, it is what a pass has done in the end. */
export async function readWanted({ pool }: Database, accountId: string): Promise<string> {
  const text = 'select wanted from account_sync where account_id = $1';
  const { rows } = await pool.query<{ wanted: string }>(text, [accountId]);
  return rows[0]?.wanted ?? '0';
}

/** Notes that an account was let go of with what was written; `underLease` has nothing left to do then. */
export function noteFinished(held: AccountLease): void {
  finished.add(held);
}

/**
 * Ends the work on an account where nothing else is to be written: what was wanted before anything was read is done,
 * and the account is let go of. Throws `LeaseLost` where somebody else has the lease.
 */
export async function finish(
  db: Database,
  held: AccountLease,
  { wanted, failed }: Pick<End, 'wanted' | 'failed'>,
): Promise<void> {
  const { accountId, lease } = held;
  if (!(await finishAlone(db, { accountId, lease, wanted, failed }))) throw new LeaseLost();
  noteFinished(held);
}

/** Proves the lease in a transaction that is not the last one under it. Throws `LeaseLost`. */
export async function prove(tx: Tx, { accountId, lease }: AccountLease): Promise<void> {
  await tx.flush();
  const text = 'select from account_sync where account_id = ? and lease = ? for no key update';
  const rows = await tx.execute<object[]>(text, [accountId, lease]);
  if (rows.length === 0) throw new LeaseLost();
}

/** What was wanted when the work under a lease began. */
const begun = new WeakMap<AccountLease, string>();

/** Remembers what was wanted before anything was read: what is heard of after it waits for no pause of this work. */
export function begin(held: AccountLease, wanted: string): void {
  if (!begun.has(held)) begun.set(held, wanted);
}

/**
 * Lets go of an account for which nothing could be done, to come back to it after the same pause; or at once, and once,
 * where more was heard of meanwhile, which may be what helps. Attempts go on being counted. Events that are waiting
 * for hours are given up then, once that has failed often enough; answers which.
 */
export async function fail(
  tx: Tx,
  held: AccountLease,
  { reason, now }: { reason: string; now: Date },
): Promise<string[]> {
  const { accountId, lease } = held;
  const wanted = begun.get(held) ?? null;
  const given = await tx.execute<{ id: string }[]>(GIVE_UP, [
    reason,
    now,
    accountId,
    triedSince(now),
    lease,
    TRIES,
  ]);
  const [row] = await tx.execute<{ again: boolean | null }[]>(FAIL, [
    reason,
    wanted,
    accountId,
    lease,
    wanted,
  ]);
  if (row?.again) await notifyDue(tx, 'account');
  return given.map(({ id }) => id);
}

const GIVE_UP = `update stripe_event e set state = 'dead', error = ?, processed_at = ?::timestamptz
from account_sync y where e.account_id = ? and e.state = 'received' and e.received_at <= ?::timestamptz
  and y.account_id = e.account_id and y.lease = ? and y.attempts + 1 >= ?::int returning e.id`;
const FAIL = `update account_sync set lease = null, leased_until = null, attempts = attempts + 1, reason = ?,
  due_at = case when wanted > ?::bigint then now() else now() + ${BACK_OFF} end
where account_id = ? and lease = ? returning wanted > ?::bigint as again`;

const stillUnderWay = () =>
  new ProblemError(
    'internal',
    'Stripe is being read for this account, and that is still under way. Please try again shortly.',
    { status: 503, retryAfterSeconds: 3 },
  );

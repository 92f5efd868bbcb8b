import type { Database } from '../database/connection.ts';
import { SLOW_MS } from '../database/entities/webhooks.ts';

/** An endpoint that is this process's to deliver to, until its lease ends. */
export type ClaimedEndpoint = {
  readonly id: string;
  readonly accountId: string;
  readonly url: string;
  readonly secret: Buffer;
  readonly prevSecret: Buffer | null;
  readonly graceEndsMs: number | null;
  readonly consecutiveFailures: number;
  readonly failingSinceMs: number | null;
  /** How long its last tries took. */
  readonly paceMs: number;
};

/** Places for endpoints that answer quickly, and for those that do not. */
export type ByPace<T> = { readonly quick: T; readonly slow: T };

type Claim = {
  readonly leaseId: string;
  /** How many may be taken. */
  readonly free: ByPace<number>;
  /** The most that one account may have at a time, and what it has now. */
  readonly share: ByPace<number>;
  readonly held: readonly { readonly accountId: string; readonly slow: boolean }[];
  /** The endpoints this process still works on, whatever became of their leases meanwhile. */
  readonly except: readonly string[];
  readonly now: Date;
};

/** An endpoint stays so long with a process that shows no sign of life, by the clock of the database, which all share. */
const LEASE_END = "now() + interval '15 seconds'";

/**
 * Leases endpoints that something is due for. Accounts take turns: whoever has fewer places comes first, then
 * whoever was served longest ago, however long its deliveries have waited. An endpoint is with one process at a
 * time: that is what keeps its order.
 */
export async function claimEndpoints(
  { pool }: Pick<Database, 'pool'>,
  { leaseId, free, share, held, except, now }: Claim,
): Promise<ClaimedEndpoint[]> {
  const { rows } = await pool.query<ClaimedEndpoint>({
    name: 'claim-endpoints',
    text: CLAIM,
    values: [
      now,
      SLOW_MS,
      except,
      held.map(({ accountId }) => accountId),
      held.map(({ slow }) => slow),
      share.quick,
      share.slow,
      Math.max(0, free.quick),
      Math.max(0, free.slow),
      leaseId,
    ],
  });
  return rows;
}

const FREE = 'active and deleted_at is null and (leased_until is null or leased_until <= now())';
/** Locked rows are passed over: nobody is waited for, so no order of locks can be wrong. */
const TAKE = `select e.id from webhook_endpoint e join line using (id)
         where ${FREE.replaceAll(/\b(active|deleted_at|leased_until)\b/g, 'e.$1')}`;
const CLAIM = `
      with due as (
        select id, account_id, served_at, pace_ms >= $2 as slow from webhook_endpoint
         where ${FREE} and next_due_at <= $1 and (held_until is null or held_until <= $1)
           and id <> all($3::uuid[])),
      held as (
        select account_id, slow, count(*) as places
          from unnest($4::uuid[], $5::boolean[]) as h(account_id, slow) group by 1, 2),
      served as (
        select account_id, max(served_at) as at from webhook_endpoint
         where deleted_at is null and account_id in (select account_id from due) group by 1),
      line as (
        select id, slow, at, served_at, coalesce(places, 0) + row_number() over (
            partition by account_id, slow order by served_at nulls first, id) as place
          from due join served using (account_id) left join held using (account_id, slow)),
      quick_ones as (
        ${TAKE} and not slow and place <= $6
         order by place, at nulls first, line.served_at nulls first, id limit $8 for no key update of e skip locked),
      slow_ones as (
        ${TAKE} and slow and place <= $7
         order by place, at nulls first, line.served_at nulls first, id limit $9 for no key update of e skip locked)
      update webhook_endpoint e set lease_id = $10, leased_until = ${LEASE_END}, served_at = $1
       where e.id in (select id from quick_ones union all select id from slow_ones)
      returning e.id, e.account_id as "accountId", e.url, e.secret, e.prev_secret as "prevSecret",
        (extract(epoch from e.rotation_grace_expires_at) * 1000)::float8 as "graceEndsMs",
        e.consecutive_failures as "consecutiveFailures",
        (extract(epoch from e.failing_since) * 1000)::float8 as "failingSinceMs", e.pace_ms as "paceMs"`;

export type Renewed = {
  readonly renewed: readonly string[];
  /** Somebody else has these by now. */
  readonly lost: readonly string[];
};

/**
 * Says of the endpoints named that this process still works on them. One whose row somebody else has locked is
 * passed over, to be named again soon: nobody can take it while it is locked, and whoever tells an account's
 * news holds several of these rows at a time.
 */
export async function renewLeases(
  { pool }: Pick<Database, 'pool'>,
  { leaseId, endpointIds }: { leaseId: string; endpointIds: readonly string[] },
): Promise<Renewed> {
  const { rows } = await pool.query<{ id: string; ours: boolean; renewed: boolean }>({
    name: 'renew-leases',
    text: `
      with ours as (
        select id from webhook_endpoint where id = any($2::uuid[]) and lease_id = $1
         order by id for no key update skip locked),
      renewed as (
        update webhook_endpoint e set leased_until = ${LEASE_END} from ours where e.id = ours.id returning e.id)
      select id, lease_id is not distinct from $1 as ours, id in (select id from renewed) as renewed
        from webhook_endpoint where id = any($2::uuid[])`,
    values: [leaseId, endpointIds],
  });
  const ids = (some: typeof rows): string[] => some.map(({ id }) => id);
  return {
    renewed: ids(rows.filter(({ renewed }) => renewed)),
    lost: ids(rows.filter(({ ours }) => !ours)),
  };
}

/**
 * Gives an endpoint back, what was claimed and not tried included, and says when it is due again: not before
 * `notBefore`, unless something new happens to its account.
 */
export async function release(
  db: Database,
  { endpointId, leaseId, now }: { endpointId: string; leaseId: string; now: Date },
  notBefore: Date | null = null,
): Promise<void> {
  await db.transaction(async (tx) => {
    // Whoever queues a delivery changes this row too: with it locked, the statements below see all of them.
    const mine = await tx.execute(
      'select 1 from webhook_endpoint where id = ? and lease_id = ? for no key update',
      [endpointId, leaseId],
    );
    if (mine.length === 0) return;
    await tx.execute(
      `update webhook_delivery set state = case when attempts = 0 then 'pending' else 'failed' end
        where endpoint_id = ? and state = 'in_flight'`,
      [endpointId],
    );
    // With a long line before it, the first that is due says as much as the earliest, and is found at once.
    const open =
      "from webhook_delivery where endpoint_id = ? and state in ('pending', 'in_flight', 'failed')";
    await tx.execute(
      `update webhook_endpoint set lease_id = null, leased_until = null, next_due_at = (
         select greatest(at, ?::timestamptz) from (select coalesce(
           (select next_attempt_at ${open} and next_attempt_at <= ? order by position limit 1),
           (select min(next_attempt_at) ${open})) as at) due where at is not null)
        where id = ?`,
      [notBefore, endpointId, now, endpointId, endpointId],
    );
  });
}

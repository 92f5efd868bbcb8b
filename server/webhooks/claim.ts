import type { Database } from '../database/connection.ts';

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
};

type Claim = {
  readonly leaseId: string;
  readonly limit: number;
  readonly failing: boolean;
  /** The endpoints this process still works on, whatever became of their leases meanwhile. */
  readonly except: readonly string[];
  readonly now: Date;
};

/** How long an endpoint stays with a process that shows no sign of life. */
const LEASE_MS = 15_000;

/**
 * Leases up to `limit` endpoints that something is due for, the longest due first, either of those that work or
 * of those whose last try failed. An endpoint is with one process at a time: that is what keeps its order.
 */
export async function claimEndpoints(
  { pool }: Pick<Database, 'pool'>,
  { leaseId, limit, failing, except, now }: Claim,
): Promise<ClaimedEndpoint[]> {
  const { rows } = await pool.query<ClaimedEndpoint>({
    name: 'claim-endpoints',
    text: `
      with due as (
        select id from webhook_endpoint
         where active and deleted_at is null and next_due_at <= $1
           and (held_until is null or held_until <= $1)
           and (leased_until is null or leased_until <= $1)
           and (consecutive_failures > 0) = $2 and id <> all($6::uuid[])
         order by next_due_at limit $3
           for update skip locked)
      update webhook_endpoint e set lease_id = $4, leased_until = $5
        from due where e.id = due.id
      returning e.id, e.account_id as "accountId", e.url, e.secret, e.prev_secret as "prevSecret",
        (extract(epoch from e.rotation_grace_expires_at) * 1000)::float8 as "graceEndsMs",
        e.consecutive_failures as "consecutiveFailures",
        (extract(epoch from e.failing_since) * 1000)::float8 as "failingSinceMs"`,
    values: [now, failing, limit, leaseId, leaseEnd(now), except],
  });
  return rows;
}

/** Says that this process still works on everything it has leased. */
export async function renewLeases(
  { pool }: Pick<Database, 'pool'>,
  leaseId: string,
  now: Date,
): Promise<void> {
  await pool.query('update webhook_endpoint set leased_until = $2 where lease_id = $1', [
    leaseId,
    leaseEnd(now),
  ]);
}

function leaseEnd(now: Date): Date {
  return new Date(now.getTime() + LEASE_MS);
}

export type ClaimedDelivery = {
  readonly id: string;
  readonly eventId: string;
  readonly eventType: string;
  /** How many tries there were. */
  readonly attempts: number;
  readonly emittedMs: number;
  /** JSON; null for a test. */
  readonly data: string | null;
  readonly sequence: number | null;
};

/** Takes the next deliveries to an endpoint that are due, in order. Those of a process that died are among them. */
export async function claimDeliveries(
  { pool }: Pick<Database, 'pool'>,
  { endpointId, limit, now }: { endpointId: string; limit: number; now: Date },
): Promise<ClaimedDelivery[]> {
  const { rows } = await pool.query<ClaimedDelivery>({
    name: 'claim-deliveries',
    text: `
      with due as (
        select id from webhook_delivery
         where endpoint_id = $1 and state in ('pending', 'in_flight', 'failed') and next_attempt_at <= $2
         order by position limit $3),
      claimed as (
        update webhook_delivery d set state = 'in_flight' from due where d.id = due.id returning d.*)
      select c.id, c.event_id as "eventId", c.event_type as "eventType", c.attempts,
             (extract(epoch from coalesce(e.emitted_at, c.created_at)) * 1000)::float8 as "emittedMs",
             e.data::text as data, e.sequence::float8 as sequence
        from claimed c left join event e on e.id = c.event_id
       order by c.position`,
    values: [endpointId, now, limit],
  });
  return rows;
}

export type Attempted = {
  readonly id: string;
  readonly state: 'delivered' | 'failed' | 'dlq';
  readonly at: Date;
  readonly nextAttemptAt: Date | null;
  readonly status: number | null;
  readonly excerpt: string | null;
  readonly error: string | null;
  readonly durationMs: number;
};

/** Writes down what became of deliveries, in the order in which they were tried, unless the lease was lost. */
export async function settle(
  { pool }: Pick<Database, 'pool'>,
  lease: { endpointId: string; leaseId: string; heldUntil: Date | null },
  attempted: readonly Attempted[],
): Promise<void> {
  const lastSuccess = attempted.findLastIndex(({ state }) => state === 'delivered');
  const failures = attempted.slice(lastSuccess + 1);
  const column = <T>(of: (attempt: Attempted) => T): T[] => attempted.map(of);
  await pool.query({
    name: 'settle-deliveries',
    text: `
      with mine as (
        update webhook_endpoint set
          consecutive_failures = case when $3::timestamptz is null then consecutive_failures else 0 end + $4,
          failing_since = coalesce(case when $3::timestamptz is null then failing_since end, $5),
          last_success_at = coalesce($3, last_success_at),
          last_failure_at = coalesce($6, last_failure_at),
          held_until = $7
        where id = $1 and lease_id = $2 returning id),
      result as (
        select * from unnest($8::uuid[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::int[],
                             $13::text[], $14::text[], $15::int[])
          as r(id, state, at, next_attempt_at, status, excerpt, error, duration_ms))
      update webhook_delivery d set
        state = r.state, attempts = d.attempts + 1, last_attempt_at = r.at, next_attempt_at = r.next_attempt_at,
        response_status = r.status, response_excerpt = r.excerpt, error = r.error, duration_ms = r.duration_ms,
        delivered_at = case when r.state = 'delivered' then r.at end
      from result r, mine
      where d.id = r.id and d.endpoint_id = mine.id`,
    values: [
      lease.endpointId,
      lease.leaseId,
      attempted[lastSuccess]?.at ?? null,
      failures.length,
      failures[0]?.at ?? null,
      attempted.findLast(({ state }) => state !== 'delivered')?.at ?? null,
      lease.heldUntil,
      column(({ id }) => id),
      column(({ state }) => state),
      column(({ at }) => at),
      column(({ nextAttemptAt }) => nextAttemptAt),
      column(({ status }) => status),
      column(({ excerpt }) => excerpt),
      column(({ error }) => error),
      column(({ durationMs }) => durationMs),
    ],
  });
}

/** Gives an endpoint back, what was claimed and not tried included, and says when it is due again. */
export async function release(db: Database, endpointId: string, leaseId: string): Promise<void> {
  await db.transaction(async (tx) => {
    // Whoever queues a delivery changes this row too: with it locked, the statements below see all of them.
    const mine = await tx.execute('select 1 from webhook_endpoint where id = ? and lease_id = ? for update', [
      endpointId,
      leaseId,
    ]);
    if (mine.length === 0) return;
    await tx.execute(
      `update webhook_delivery set state = case when attempts = 0 then 'pending' else 'failed' end
        where endpoint_id = ? and state = 'in_flight'`,
      [endpointId],
    );
    await tx.execute(
      `update webhook_endpoint set lease_id = null, leased_until = null, next_due_at = (
         select min(next_attempt_at) from webhook_delivery
          where endpoint_id = ? and state in ('pending', 'in_flight', 'failed'))
        where id = ?`,
      [endpointId, endpointId],
    );
  });
}

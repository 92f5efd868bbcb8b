import type { Database } from '../database/connection.ts';

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

/**
 * Takes the next deliveries to a leased endpoint that are due, in order; none where the lease was lost. Those of a
 * process that died are among them.
 */
export async function claimDeliveries(
  { pool }: Pick<Database, 'pool'>,
  { endpointId, leaseId, limit, now }: { endpointId: string; leaseId: string; limit: number; now: Date },
): Promise<ClaimedDelivery[]> {
  const { rows } = await pool.query<ClaimedDelivery>({
    name: 'claim-deliveries',
    text: `
      with due as (
        select id from webhook_delivery
         where endpoint_id = $1 and state in ('pending', 'in_flight', 'failed') and next_attempt_at <= $2
           and exists (select from webhook_endpoint where id = $1 and lease_id = $4)
         order by position limit $3
           for no key update),
      claimed as (
        update webhook_delivery d set state = 'in_flight' from due where d.id = due.id returning d.*)
      select c.id, c.event_id as "eventId", c.event_type as "eventType", c.attempts,
             (extract(epoch from coalesce(e.emitted_at, c.created_at)) * 1000)::float8 as "emittedMs",
             e.data::text as data, e.sequence::float8 as sequence
        from claimed c left join event e on e.id = c.event_id
       order by c.position`,
    values: [endpointId, now, limit, leaseId],
  });
  return rows;
}

export type Attempted = {
  readonly id: string;
  /** Which try of this delivery it was, counted from 1. */
  readonly attempt: number;
  readonly state: 'delivered' | 'failed' | 'dlq';
  readonly at: Date;
  readonly nextAttemptAt: Date | null;
  readonly status: number | null;
  readonly excerpt: string | null;
  readonly error: string | null;
  readonly durationMs: number;
};

export type Held = {
  readonly endpointId: string;
  readonly leaseId: string;
  readonly heldUntil: Date | null;
  readonly paceMs: number;
};

/**
 * Writes down what became of deliveries, in the order in which they were tried, and counts them; answers whether
 * the endpoint is still ours. Where the lease was lost nothing is written: whoever has it tries them again.
 */
export async function settle(
  { pool }: Pick<Database, 'pool'>,
  { endpointId, leaseId, heldUntil, paceMs }: Held,
  attempted: readonly Attempted[],
): Promise<boolean> {
  const lastSuccess = attempted.findLastIndex(({ state }) => state === 'delivered');
  const failures = attempted.slice(lastSuccess + 1);
  const column = <T>(of: (attempt: Attempted) => T): T[] => attempted.map(of);
  const came = (to: Attempted['state']): number => attempted.filter(({ state }) => state === to).length;
  // Whatever was tried before stood among the failed until now.
  const again = attempted.filter(({ attempt }) => attempt > 1).length;
  const { rowCount } = await pool.query({
    name: 'settle-deliveries',
    text: `
      with mine as (
        update webhook_endpoint set
          consecutive_failures = case when $3::timestamptz is null then consecutive_failures else 0 end + $4,
          failing_since = coalesce(case when $3::timestamptz is null then failing_since end, $5),
          last_success_at = coalesce($3, last_success_at),
          last_failure_at = coalesce($6, last_failure_at),
          held_until = $7, pace_ms = $16,
          delivered_count = delivered_count + $17, failed_count = failed_count + $18, dlq_count = dlq_count + $19
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
      endpointId,
      leaseId,
      attempted[lastSuccess]?.at ?? null,
      failures.length,
      failures[0]?.at ?? null,
      attempted.findLast(({ state }) => state !== 'delivered')?.at ?? null,
      heldUntil,
      column(({ id }) => id),
      column(({ state }) => state),
      column(({ at }) => at),
      column(({ nextAttemptAt }) => nextAttemptAt),
      column(({ status }) => status),
      column(({ excerpt }) => excerpt),
      column(({ error }) => error),
      column(({ durationMs }) => durationMs),
      Math.min(Math.round(paceMs), MOST_PACE_MS),
      came('delivered'),
      came('failed') - again,
      came('dlq'),
    ],
  });
  return rowCount !== 0;
}

/** An hour: more than any try takes, and far below what the column holds. */
const MOST_PACE_MS = 3_600_000;

import type { Clock } from '../../shared/time.ts';
import { expireTrialPack } from '../credit/expire.ts';
import type { Database } from '../database/connection.ts';
import { databaseNow } from '../database/now.ts';

/** Whoever moves the time this service lives in, step by step, asks it before each step. */
export type LocalTime = {
  /** Does what is due by now, and answers whether nothing else is still to be done at this moment. */
  settle(): Promise<boolean>;
  /** When something falls due next that no event of Stripe will tell; null where nothing does. */
  nextDue(): Promise<Date | null>;
};

/**
 * This service beside a local Stripe whose clock is moved. Its queues wait by real time, so that what waits for a
 * moment of its own time is done here: at the end of a trial pack, and a day before it.
 */
export function localTime(deps: { db: Database; clock: Clock }): LocalTime {
  const { db, clock } = deps;
  return {
    async settle() {
      const now = await databaseNow(db, clock);
      const { rows: due } = await db.pool.query<{ id: string }>(DUE_PACKS, [now]);
      for (const { id } of due) await expireTrialPack({ db, clock: { now: () => now } }, id);
      const { rows } = await db.pool.query<{ busy: boolean }>(BUSY, [now]);
      return due.length === 0 && rows[0]?.busy === false;
    },
    async nextDue() {
      const now = await databaseNow(db, clock);
      const { rows } = await db.pool.query<{ ms: number | null }>(NEXT_DUE, [now]);
      const ms = rows[0]?.ms ?? null;
      return ms === null ? null : new Date(Math.ceil(ms));
    },
  };
}

/** The moments of a pack at which its customer is told something, each until that has been done. */
const PACK_MOMENTS = `
  select p.account_id, p.expires_at as at from trial_pack p where p.state in ('active', 'suspended')
  union all
  select p.account_id, p.expires_at - interval '1 day' from trial_pack p
   where p.state = 'active' and p.remaining_seconds > 0 and not exists (
     select from audit_entry a where a.dedupe_key = 'trial_pack:' || p.id || ':expiring')`;

const DUE_PACKS = `select distinct account_id as id from (${PACK_MOMENTS}) m where at <= $1`;

const DUE_DELIVERIES = `active and deleted_at is null and (held_until is null or held_until <= $1)`;

// A delivery that is under way has its endpoint leased; one that failed waits for its next try.
const BUSY = `select
  exists (select from stripe_event where state = 'received')
  or exists (select from email where state = 'pending')
  or exists (select from webhook_endpoint where ${DUE_DELIVERIES} and (next_due_at <= $1 or lease_id is not null))
  as busy`;

const NEXT_DUE = `select (extract(epoch from min(at)) * 1000)::float8 as ms from (
  select at from (${PACK_MOMENTS}) m
  union all
  select greatest(next_due_at, held_until) from webhook_endpoint
   where active and deleted_at is null and next_due_at is not null) due
 where at > $1`;

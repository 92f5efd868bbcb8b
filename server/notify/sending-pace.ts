import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/connection.ts';

/** How fast a provider may be called that counts the calls of all our processes together. */
export type SendingPace = {
  /** Resolves when the next call may be made, and takes it; rejects once the signal comes. */
  turn(signal?: AbortSignal): Promise<void>;
  /** Lets nobody through for this long. */
  hold(durationMs: number): Promise<void>;
};

/** What leaves evenly does not arrive evenly: a tenth of what is allowed is left unused. */
const SPARE = 1.1;

// Whoever comes when it is free takes it and says until when it is not; nobody can have it in advance, so that
// being held is heard of by those who wait already.
const TAKE = `with taken as (
  insert into pace (name, free_at) values ($1, clock_timestamp() + $2 * interval '1 millisecond')
  on conflict (name) do update set free_at = excluded.free_at where pace.free_at <= clock_timestamp()
  returning name)
select exists (select from taken) as taken, coalesce(
  (select extract(epoch from free_at - clock_timestamp()) * 1000 from pace where name = $1), 0)::float8 as "waitMs"`;

const HOLD = `insert into pace (name, free_at) values ($1, clock_timestamp() + $2 * interval '1 millisecond')
on conflict (name) do update set free_at = greatest(pace.free_at, excluded.free_at)`;

/**
 * Keeps calls apart by a row of the database and by its clock, because the limit is the account's: two processes
 * together are no faster than one. Within a process callers are let through in the order in which they came.
 */
export function createSendingPace(
  { pool }: Pick<Database, 'pool'>,
  { name, perSecond }: { name: string; perSecond: number },
): SendingPace {
  const gapMs = (1_000 * SPARE) / perSecond;
  let last: Promise<void> = Promise.resolve();

  const take = async (signal?: AbortSignal): Promise<void> => {
    for (;;) {
      signal?.throwIfAborted();
      const { rows } = await pool.query<{ taken: boolean; waitMs: number }>({
        name: 'take-pace',
        text: TAKE,
        values: [name, gapMs],
      });
      const waitMs = rows[0]?.taken ? null : (rows[0]?.waitMs ?? 0);
      if (waitMs === null) return;
      // Others may have waited for the same moment; whoever comes second sees a new one.
      await sleep(Math.max(waitMs, 0) + 1, undefined, signal && { signal });
    }
  };

  return {
    async turn(signal) {
      const mine = last.then(() => take(signal));
      last = mine.catch(() => undefined);
      await mine;
    },
    async hold(durationMs) {
      await pool.query({ name: 'hold-pace', text: HOLD, values: [name, durationMs] });
    },
  };
}

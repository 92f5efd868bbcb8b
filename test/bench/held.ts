import { setTimeout as sleep } from 'node:timers/promises';
import { withClient } from './database.ts';

export const LOOK_PAUSE_MS = 10;

const HELD = `select coalesce(max(extract(epoch from clock_timestamp() - xact_start)) * 1000, 0)::float8 as transaction,
  coalesce(max(extract(epoch from clock_timestamp() - xact_start) * 1000)
    filter (where exists (select from pg_locks l where l.pid = a.pid and l.locktype in ('advisory', 'tuple'))), 0)::float8 as lock
  from pg_stat_activity a where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`;

/** Looks again and again, until it is stopped, how long anybody has held a transaction, or one with a lock. */
export function watchHeld(databaseUrl: string) {
  let isOver = false;
  const looking = withClient(databaseUrl, async (client) => {
    const longest = { longestTransactionMs: 0, longestLockMs: 0 };
    while (!isOver) {
      const { rows } = await client.query<{ transaction: number; lock: number }>({
        name: 'bench-held',
        text: HELD,
      });
      longest.longestTransactionMs = Math.max(longest.longestTransactionMs, rows[0]?.transaction ?? 0);
      longest.longestLockMs = Math.max(longest.longestLockMs, rows[0]?.lock ?? 0);
      await sleep(LOOK_PAUSE_MS);
    }
    return longest;
  });
  return {
    stop() {
      isOver = true;
      return looking;
    },
  };
}

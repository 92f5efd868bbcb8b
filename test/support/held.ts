import { expect } from 'vitest';
import type { Database } from '../../server/database/connection.ts';
import { untilTrue } from './service.ts';

/**
 * Nothing is held in the database for as long as whatever is under way takes: when this has watched for so long, no
 * transaction is open that was so half of that time ago, and whoever holds a lock has one. A transaction of a moment
 * may be in the middle of it, and on a busy machine a moment is long.
 */
export async function expectNothingHeld({ pool }: Pick<Database, 'pool'>, watchMs: number): Promise<void> {
  const endsAtMs = performance.now() + watchMs;
  await untilTrue(() => performance.now() > endsAtMs);
  const { rows } = await pool.query(
    `select state, query, clock_timestamp() - xact_start as age from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
        and clock_timestamp() - xact_start > $1 * interval '1 millisecond'`,
    [watchMs / 2],
  );
  expect(rows).toEqual([]);
}

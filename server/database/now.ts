import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Database } from './connection.ts';

/**
 * The moment by the clock of the database, which all processes share; to the millisecond, never ahead of it. Of the
 * given clock only what it was moved ahead counts.
 */
export async function databaseNow({ pool }: Pick<Database, 'pool'>, clock: Clock): Promise<Date> {
  const { rows } = await pool.query<{ ms: number }>(
    'select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
  );
  const [row] = rows;
  if (!row) throw new Error('The database did not tell the time');
  return new Date(row.ms + aheadOf(clock));
}

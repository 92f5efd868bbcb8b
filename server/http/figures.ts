import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { isDatabaseUnavailable } from '../database/unavailable.ts';

/** Where figures are read, and the time that the rows live in. */
export type FiguresDeps = { readonly db: Pick<Database, 'pool'>; readonly clock: Clock };

/** In a query about times: the moment by the database's clock, with what ours was moved ahead. */
export const NOW = "(now() + $1 * interval '1 millisecond')";

/** Reads one row of figures for a scrape; `unknown` while the database is away, when the others are wanted most. */
export async function readFigures<T extends object>(
  { db: { pool }, clock }: FiguresDeps,
  query: string,
  unknown: T,
): Promise<T> {
  try {
    const { rows } = await pool.query<T>(query, query.includes(NOW) ? [aheadOf(clock)] : []);
    return rows[0] ?? unknown;
  } catch (error) {
    if (isDatabaseUnavailable(error)) return unknown;
    throw error;
  }
}

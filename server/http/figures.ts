import type { Database } from '../database/connection.ts';
import { isDatabaseUnavailable } from '../database/unavailable.ts';

/** Reads one row of figures for a scrape; `unknown` while the database is away, when the others are wanted most. */
export async function readFigures<T extends object>(
  pool: Database['pool'],
  query: string,
  unknown: T,
): Promise<T> {
  try {
    const { rows } = await pool.query<T>(query);
    return rows[0] ?? unknown;
  } catch (error) {
    if (isDatabaseUnavailable(error)) return unknown;
    throw error;
  }
}

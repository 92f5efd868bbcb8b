import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { StateError } from './disk.ts';

/**
 * How far the clock of the local Stripe with this state was moved ahead, in seconds, while that is not running; 0
 * where there is no such file. Throws a StateError where it cannot be read, or is in use.
 */
export function aheadSecondsIn(path: string): number {
  if (!existsSync(path)) return 0;
  try {
    const db = new DatabaseSync(path, { readOnly: true });
    try {
      const row = db
        .prepare(
          "select json_extract(value, '$.value.seconds') as seconds from object where kind = 'hidden.clock' and id = 'offset'",
        )
        .get();
      return Number(row?.['seconds'] ?? 0);
    } finally {
      db.close();
    }
  } catch (error) {
    throw new StateError(path, error);
  }
}

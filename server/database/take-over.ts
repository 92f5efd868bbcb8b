import type { PgBoss } from 'pg-boss';
import { JOBS_SCHEMA } from './queues.ts';
import { repeat, type Series } from './recurring.ts';

/** A job in the hands of a worker that has gone silent. */
export type Orphan = {
  readonly id: string;
  readonly queue: string;
  readonly data: object;
  readonly tries: number;
};

/** How often a worker says that it is still at its jobs. */
export const REFRESH_SECONDS = 1;
/** Two signs of life missed. */
const SILENT_SECONDS = 2.5;
const PAUSE_MS = 2_000;

/**
 * Looks after jobs whose worker was killed: they are done here and now, seconds after its last sign of life, and
 * not only once the queue hands them out again. A job may so be done twice, which handlers stand. Each process
 * takes a job over once; when that fails the queue comes back to it in its own time.
 */
export function takeOver(
  boss: PgBoss,
  queues: () => readonly string[],
  run: (orphans: readonly Orphan[], signal: AbortSignal) => Promise<void>,
  onError: (error: unknown) => void,
): Series {
  let known: ReadonlySet<string> = new Set();
  const look = async (signal: AbortSignal): Promise<void> => {
    const { rows } = await boss.getDb().executeSql(FIND, [queues(), SILENT_SECONDS]);
    const orphans: Orphan[] = rows;
    const fresh = orphans.filter(({ id }) => !known.has(id));
    known = new Set(orphans.map(({ id }) => id));
    if (fresh.length > 0) await run(fresh, signal);
  };
  return repeat(look, { pauseMs: PAUSE_MS, onError });
}

const FIND = `select id, name as queue, data, retry_count as tries from ${JOBS_SCHEMA}.job
where state = 'active' and name = any($1) and coalesce(heartbeat_on, started_on) < now() - $2 * interval '1 second'
order by created_on limit 500`;

import type { Database } from './connection.ts';

/** The tasks that several processes share, each done by one of them at a time. */
export type TaskName = 'stripe-catch-up' | 'stripe-sweep' | 'ledger-check';

/** A turn that this process has until `heldUntil`. */
export type Turn = {
  readonly name: TaskName;
  readonly heldUntil: Date;
  /** What the turn before has reached; null at the very first. */
  readonly progress: unknown;
};

/**
 * Takes the turn of a task if it is due, for `leaseMs`; null where it is not, or somebody else has it. A process
 * that dies in its turn is followed by another one when the lease is over.
 */
export async function takeTurn(
  { pool }: Pick<Database, 'pool'>,
  name: TaskName,
  { now, leaseMs }: { now: Date; leaseMs: number },
): Promise<Turn | null> {
  const heldUntil = new Date(now.getTime() + leaseMs);
  const { rows } = await pool.query<{ progress: unknown }>(
    `insert into recurring_task as task (name, next_run_at, progress) values ($1, $2, 'null')
on conflict (name) do update set next_run_at = $2 where task.next_run_at <= $3
returning progress`,
    [name, heldUntil, now],
  );
  return rows[0] ? { name, heldUntil, progress: rows[0].progress } : null;
}

/**
 * Writes down what the turn has reached, and either keeps it until a later moment or ends it: then that is when
 * the next one is due. Throws, and writes nothing, when the turn was lost to somebody else meanwhile.
 */
export async function saveTurn(
  { pool }: Pick<Database, 'pool'>,
  { name, heldUntil }: Turn,
  progress: object,
  until: Date,
): Promise<Turn> {
  const { rowCount } = await pool.query(
    'update recurring_task set next_run_at = $3, progress = $4 where name = $1 and next_run_at = $2',
    [name, heldUntil, until, JSON.stringify(progress)],
  );
  if (rowCount !== 1) throw new Error(`The turn of ${name} took too long and was given to another process`);
  return { name, heldUntil: until, progress };
}

/** A series of runs that goes on until it is closed. */
export type Series = { close(): Promise<void> };

/**
 * Runs a task at once, and again `pauseMs` after each end. What it throws is told and the next run comes all the
 * same. `close` aborts the signal and waits for the run under way.
 */
export function repeat(
  task: (signal: AbortSignal) => Promise<void>,
  { pauseMs, onError }: { pauseMs: number; onError: (error: unknown) => void },
): Series {
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let running = run();

  async function run(): Promise<void> {
    await task(stop.signal).catch(onError);
    if (stop.signal.aborted) return;
    timer = setTimeout(() => {
      running = run();
    }, pauseMs);
  }
  return {
    async close() {
      stop.abort();
      clearTimeout(timer);
      await running;
    },
  };
}

import type { Clock } from '../../shared/time.ts';
import type { Database } from './connection.ts';
import { enqueue } from './jobs.ts';
import type { Log } from './log.ts';
import { JOBS_SCHEMA, type QueueName } from './queues.ts';
import { saveTurn, takeTurn } from './recurring.ts';

const EVERY_MS = 60_000;
const LEASE_MS = 120_000;
/** Younger ones may be between two jobs of theirs. */
const SETTLED_MS = 60_000;
const MOST = 500;

/**
 * Gives a new job to each event that waits without one, as after a kill during the last try, or where
 * somebody emptied a queue. Done by one process at a time, once a minute; null where it is not due, else how many.
 */
export async function replaceLostJobs({
  db,
  clock,
  log,
}: {
  db: Database;
  clock: Clock;
  log: Log;
}): Promise<number | null> {
  const now = clock.now();
  const turn = await takeTurn(db, 'lost-jobs', { now, leaseMs: LEASE_MS });
  if (!turn) return null;
  const before = new Date(now.getTime() - SETTLED_MS);
  const events = await withoutJob(db, EVENTS, 'stripe-event', before);
  await db.transaction(async (tx) => {
    for (const eventId of events) await enqueue(tx, 'stripe-event', { eventId });
  });
  if (events.length > 0) log.warn({ events }, 'what waited without a job was given one');
  await saveTurn(db, turn, {}, new Date(now.getTime() + EVERY_MS));
  return events.length;
}

async function withoutJob(
  { pool }: Database,
  sql: string,
  queue: QueueName,
  before: Date,
): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(sql, [queue, before, MOST]);
  return rows.map(({ id }) => id);
}

const noLiveJob = (member: string, id: string) => `not exists (select from ${JOBS_SCHEMA}.job j
  where j.name = $1 and j.state in ('created', 'retry', 'active') and j.data->>'${member}' = ${id})`;

const EVENTS = `select e.id from stripe_event e
where e.state = 'received' and e.received_at < $2 and ${noLiveJob('eventId', 'e.id')}
order by e.received_at limit $3`;

import { type Db, fromKysely, type JobResult, PgBoss, systemClock } from 'pg-boss';
import type { Tx } from './connection.ts';
import { describeError, inOneLine } from './describe-error.ts';
import { fromDatabase } from './origin.ts';
import { JOBS_SCHEMA, type Jobs, type QueueName } from './queues.ts';
import type { Series } from './recurring.ts';
import { type Orphan, REFRESH_SECONDS, takeOver } from './take-over.ts';

/**
 * Adds a job inside the caller's transaction: it exists if and only if the transaction commits, and waiting
 * workers hear of it within milliseconds of the commit. With `startAfter` it waits until then.
 */
export async function enqueue<Q extends QueueName>(
  tx: Tx,
  queue: Q,
  payload: Jobs[Q],
  { startAfter }: { startAfter?: Date } = {},
): Promise<void> {
  const transaction = tx.getTransactionContext();
  if (!transaction) throw new Error(`A job for ${queue} was enqueued outside a transaction`);
  const db = fromKysely(transaction);
  await send(tx, db, (boss) => boss.send(queue, payload, { db, ...(startAfter && { startAfter }) }));
}

/** What a handler is given of a job. */
export type QueuedJob<Q extends QueueName> = {
  readonly id: string;
  readonly data: Jobs[Q];
  /** Counts from 1. */
  readonly attempt: number;
  /** Whether failing this time leads to the dead-letter queue. */
  readonly isLastAttempt: boolean;
  /** Aborted when the job has run for too long or the process stops; somebody else will take it then. */
  readonly signal: AbortSignal;
};

/** `failed` is tried again as the queue's policy says; `deadletter` goes to the dead-letter queue at once. */
export type JobOutcome =
  | { readonly id: string; readonly status: 'completed' }
  | { readonly id: string; readonly status: 'failed' | 'deadletter'; readonly reason: string };

export type JobHandler<Q extends QueueName> = (
  jobs: readonly QueuedJob<Q>[],
) => Promise<readonly JobOutcome[]>;

/**
 * Starts workers on a queue: `concurrency` of them, each taking up to `batchSize` jobs at a time. The handler
 * says what became of each job; a job it leaves out has failed, and if it throws all of them have. A job can
 * be handed out again after a crash, so handlers are safe to repeat.
 */
export async function work<Q extends QueueName>(
  boss: PgBoss,
  queue: Q,
  { batchSize, concurrency }: { batchSize: number; concurrency: number },
  handler: JobHandler<Q>,
): Promise<void> {
  const options = {
    batchSize,
    localConcurrency: concurrency,
    includeMetadata: true,
    perJobResults: true,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 1,
    // NOTIFY tells of new jobs only. Retries and jobs that were to wait are found by looking.
    notifyPollingIntervalSeconds: 2,
    heartbeatRefreshSeconds: REFRESH_SECONDS,
  } as const;
  await boss.work<Jobs[Q], unknown, typeof options>(queue, options, async (jobs) => {
    const handed = jobs.map((job) => ({
      id: job.id,
      data: job.data,
      attempt: job.retryCount + 1,
      isLastAttempt: job.retryCount >= job.retryLimit,
      signal: job.signal,
    }));
    const outcomes = await handler(handed).catch((error: unknown) => {
      throw tellable(error);
    });
    return outcomes.map(toResult);
  });
  crewOf(boss).finish.set(queue, async (orphans, signal) => {
    for (let start = 0; start < orphans.length && !signal.aborted; start += batchSize) {
      const batch = orphans.slice(start, start + batchSize);
      // What was enqueued for this queue is its payload. Whether it was the last try is for the queue to say.
      const data = (orphan: Orphan) => orphan.data as Jobs[Q];
      await handler(
        batch.map((job) => ({
          id: job.id,
          data: data(job),
          attempt: job.tries + 1,
          isLastAttempt: false,
          signal,
        })),
      );
    }
  });
}

/** The queue keeps all of an error's members in the job's row, and values of other rows may be among them. */
function tellable(error: unknown): Error {
  const told = new Error(inOneLine(error));
  const { stack } = describeError(error);
  told.stack = stack ? `${told.message}\n${stack}` : told.message;
  return told;
}

/** What finishes the jobs of a worker that was killed, by queue. */
type Crew = {
  readonly finish: Map<string, (orphans: readonly Orphan[], signal: AbortSignal) => Promise<void>>;
  readonly series: Series;
};
const crews = new WeakMap<PgBoss, Crew>();

function crewOf(boss: PgBoss): Crew {
  const crew = crews.get(boss);
  if (!crew) throw new Error('Workers are started on what startBoss has returned, and before it is stopped');
  return crew;
}

function gatherCrew(boss: PgBoss, log: JobLog): void {
  const finish: Crew['finish'] = new Map();
  const series = takeOver(
    boss,
    () => [...finish.keys()],
    async (orphans, signal) => {
      log.warn({ jobs: orphans.length }, 'finishing the jobs of a worker that has gone silent');
      await Promise.all(
        [...finish].map(([queue, run]) =>
          run(
            orphans.filter((orphan) => orphan.queue === queue),
            signal,
          ),
        ),
      );
    },
    (error) => log.error({ err: error }, 'jobs of a silent worker could not be finished'),
  );
  crews.set(boss, { finish, series });
}

function toResult(outcome: JobOutcome): JobResult {
  if (outcome.status === 'completed') return { id: outcome.id, status: 'completed' };
  return { id: outcome.id, status: outcome.status, output: { reason: outcome.reason } };
}

export type JobLog = {
  error(details: object, message: string): void;
  warn(details: object, message: string): void;
};

export type BossOptions = {
  url: string;
  poolMax: number;
  applicationName: string;
  log: JobLog;
};

const POOL_LIMITS = {
  connectionTimeoutMillis: 5_000,
  statement_timeout: 10_000,
  query_timeout: 12_000,
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
};

/**
 * Connects to the job queues, on at most `poolMax` connections and one that listens, and looks after jobs
 * whose worker died. Throws if the schema is missing or behind; never changes it.
 */
export async function startBoss({ url, poolMax, applicationName, log }: BossOptions): Promise<PgBoss> {
  const boss = new PgBoss({
    ...POOL_LIMITS,
    connectionString: url,
    max: poolMax,
    application_name: applicationName,
    schema: JOBS_SCHEMA,
    migrate: false,
    schedule: false,
    useListenNotify: true,
    // How soon the jobs of a worker that died are noticed, after its last heartbeat has become too old.
    superviseIntervalSeconds: 2,
    monitorIntervalSeconds: 2,
  });
  boss.on('error', (error) => log.error({ err: error }, 'job queue error'));
  boss.on('warning', (warning) => log.warn({ warning }, 'job queue warning'));
  try {
    await boss.start();
  } catch (error) {
    await boss.stop({ graceful: false });
    throw fromDatabase(error);
  }
  gatherCrew(boss, log);
  return boss;
}

/** Takes no more jobs, waits for those under way, gives back what is left at the deadline, and disconnects. */
export async function stopBoss(boss: PgBoss, timeoutMs = 8_000): Promise<void> {
  const crew = crews.get(boss);
  crews.delete(boss);
  await crew?.series.close();
  await boss.stop({ graceful: true, timeout: timeoutMs });
}

/** A pg-boss on somebody else's connection: it sends and looks, and does nothing by itself. */
export async function passiveBoss(db: Db): Promise<PgBoss> {
  const boss = new PgBoss({
    db,
    schema: JOBS_SCHEMA,
    migrate: false,
    supervise: false,
    schedule: false,
    // Without intervals there is nothing to stop, and nothing that runs on a connection long returned.
    clock: { ...systemClock, setInterval: () => undefined },
  });
  return await boss.start();
}

/** Senders by the driver of their database; each only remembers what the queues are. */
const senders = new WeakMap<object, Promise<PgBoss>>();

async function send(tx: Tx, db: Db, use: (boss: PgBoss) => Promise<unknown>): Promise<void> {
  const driver = tx.getDriver();
  const sender = senders.get(driver) ?? passiveBoss(db);
  senders.set(driver, sender);
  try {
    await use(await sender);
  } catch (error) {
    // It may have looked at a database that was away or not migrated yet; the next one looks again.
    if (senders.get(driver) === sender) senders.delete(driver);
    throw error;
  }
}

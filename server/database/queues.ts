/** The schema pg-boss keeps to itself. */
export const JOBS_SCHEMA = 'pgboss';

/** Every kind of job, with its payload: ids only, so that a job never shows a stale copy of a row. */
export type Jobs = {
  'stripe-event': { eventId: string };
};
export type QueueName = keyof Jobs;

export type QueuePolicy = {
  /** How often a failed job is tried again before it goes to the dead-letter queue. */
  readonly retryLimit: number;
  /** The first pause, in seconds; each further one is about twice as long, up to `retryDelayMax`. */
  readonly retryDelay: number;
  readonly retryBackoff: boolean;
  readonly retryDelayMax: number;
  /** How many seconds a job may run before it counts as failed. */
  readonly expireInSeconds: number;
  /** A worker that stays silent for this many seconds counts as dead and its job is handed out again. */
  readonly heartbeatSeconds: number;
  /** How many seconds a waiting job is kept past its start. */
  readonly retentionSeconds: number;
  /** How many seconds a finished job is kept. */
  readonly deleteAfterSeconds: number;
  readonly notify: boolean;
};

const HOUR = 3_600;
const DAY = 24 * HOUR;

const COMMON = {
  retryBackoff: true,
  heartbeatSeconds: 10,
  retentionSeconds: 30 * DAY,
  deleteAfterSeconds: DAY,
  notify: true,
} as const;

/** How each queue treats its jobs. */
export const QUEUES = {
  // About seven hours of tries: longer than an outage of Stripe, shorter than its own three days of retries.
  'stripe-event': { ...COMMON, retryLimit: 35, retryDelay: 2, retryDelayMax: 900, expireInSeconds: 120 },
} satisfies Record<QueueName, QueuePolicy>;

/** Dead letters wait for a person. */
export const DEAD_LETTER_POLICY = {
  ...COMMON,
  retryLimit: 0,
  retryDelay: 1,
  retryDelayMax: 1,
  expireInSeconds: 60,
  retentionSeconds: 365 * DAY,
  notify: false,
} satisfies QueuePolicy;

/** Where the jobs of a queue end when every try has failed. */
export function deadLetterOf(queue: string): string {
  return `${queue}-dead`;
}

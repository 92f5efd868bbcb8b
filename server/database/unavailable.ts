const SOCKET_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/**
 * SQLSTATEs, or classes of them, that say "not now" and nothing about the statement: connection lost (08),
 * resources such as connections used up (53), rolled back to end a deadlock (40P01), cancelled by
 * statement_timeout, server shutting down or starting (57P0x), connection closed by a timeout of the
 * transaction (25P03, 25P04), a standby after a failover (25006).
 */
const SQL_STATES = /^(08|53|40P01$|57014$|57P0|25P03$|25P04$|25006$)/;

/** pg has no codes for what it notices by itself. */
const MESSAGES = [
  'Connection terminated',
  'Query read timeout',
  'timeout exceeded when trying to connect',
  'timeout expired',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable',
  'Cannot use a pool after calling end on the pool',
];

/** Whether an error means that the database cannot answer just now: the call can be repeated, 503 until then. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string') {
    if (SOCKET_CODES.has(error.code) || SQL_STATES.test(error.code)) return true;
  }
  if (MESSAGES.some((message) => error.message.includes(message))) return true;
  if (error instanceof AggregateError && error.errors.some(isDatabaseUnavailable)) return true;
  return isDatabaseUnavailable(error.cause);
}

import { isDatabaseError } from './origin.ts';

const SOCKET_CODES: ReadonlySet<unknown> = new Set([
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

/** A lock that another process held for longer than we wait for one. */
const LOCK_TIMEOUT = '55P03';

/**
 * SQLSTATEs, or classes of them, that say "not now" and nothing about the statement: connection lost (08),
 * resources such as connections used up (53), rolled back to end a deadlock (40P01), a lock that was not given in
 * time (55P03), cancelled by statement_timeout, server shutting down or starting (57P0x), connection closed by a
 * timeout of the transaction (25P03, 25P04), a standby after a failover (25006).
 */
const SQL_STATES = /^(08|53|40P01$|55P03$|57014$|57P0|25P03$|25P04$|25006$)/;

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

/**
 * Whether an error means that the database cannot answer just now: the call can be repeated, 503 until then. What
 * did not arise at the database is never that, whatever its code.
 */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (isDatabaseError(error) && saysNotNow(error)) || isDatabaseUnavailable(error.cause);
}

/** Whether another process kept the row that was wanted, for longer than we wait. */
export function isLockTimeout(error: unknown): boolean {
  return isDatabaseError(error) && 'code' in error && error.code === LOCK_TIMEOUT;
}

function saysNotNow(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? error.code : undefined;
  if (SOCKET_CODES.has(code) || (typeof code === 'string' && SQL_STATES.test(code))) return true;
  if (MESSAGES.some((message) => error.message.includes(message))) return true;
  // A name with several addresses, each of which failed in its own way.
  const parts: unknown = 'errors' in error ? error.errors : undefined;
  return Array.isArray(parts) && parts.some(saysNotNow);
}

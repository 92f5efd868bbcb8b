import { DriverException } from '@mikro-orm/postgresql';
import type { Pool } from 'pg';

/** Errors that came out of a connection to the database, or out of the wait for one. */
const known = new WeakSet<object>();

/**
 * Whether an error arose at the database, be it by its words or by the line to it. Only there this can be known: the
 * same codes come from callers' sockets, from Stripe, and from whoever else is reached over a network.
 */
export function isDatabaseError(error: unknown): error is Error {
  return error instanceof Error && (error instanceof DriverException || known.has(error));
}

/** Notes where an error comes from; for whoever has caught it at the database. */
export function fromDatabase<T>(error: T): T {
  if (error instanceof Error) known.add(error);
  return error;
}

/**
 * Notes it for everything that a pool and its connections throw from now on. The pool's own `query` asks for a
 * connection and gives it the query, both by callback, so what it throws has been noted there.
 */
export function noteErrorsOf(pool: Pool): void {
  noteErrorsOfMethod(pool, 'connect');
  pool.on('connect', (client) => noteErrorsOfMethod(client, 'query'));
}

/** They answer by a promise or by a callback that comes last, as they are called. */
function noteErrorsOfMethod(of: object, method: string): void {
  Reflect.set(of, method, (...args: unknown[]): unknown => {
    const original: unknown = Reflect.get(Object.getPrototypeOf(of), method);
    if (typeof original !== 'function') throw new Error(`pg has no ${method}`);
    const last = args.at(-1);
    if (typeof last === 'function') {
      args[args.length - 1] = (error: unknown, ...rest: unknown[]) =>
        Reflect.apply(last, undefined, [fromDatabase(error), ...rest]);
      return Reflect.apply(original, of, args);
    }
    const answer: unknown = Reflect.apply(original, of, args);
    if (!(answer instanceof Promise)) return answer;
    return answer.catch((error: unknown) => {
      throw fromDatabase(error);
    });
  });
}

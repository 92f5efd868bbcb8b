import { redactSecrets } from '../../shared/redact.ts';
import { isDatabaseError } from './origin.ts';

/** What of an error may be written down, by whom it concerns: never a row's values, a statement or an answer. */
export type DescribedError = {
  type: string;
  message: string;
  code?: unknown;
  /** Where in the database: names of ours, none of which holds a value. */
  table?: string;
  column?: string;
  constraint?: string;
  queue?: string;
  stack?: string;
  cause?: DescribedError;
};

/**
 * Describes an error for a log or a row. PostgreSQL and MikroORM write values and whole statements into their
 * messages, so of theirs only the code and the names are kept; so it is with what a parser could not read, which it
 * quotes. Further members of an error are left out, whoever made it: drivers and SDKs keep raw answers there.
 */
export function describeError(error: unknown): DescribedError {
  if (!isErrorLike(error)) return { type: typeof error, message: clean(String(error)) };
  const { name, code, queue, stack, cause } = error;
  const isOfDatabase = isDatabaseError(error) || isOfPostgres(error);
  const type = typeof name === 'string' ? name : 'Error';
  return {
    type,
    message: messageOf(error, type, isOfDatabase),
    ...(code !== undefined && { code }),
    ...(isOfDatabase && namesIn(error)),
    ...(typeof queue === 'string' && { queue }),
    ...(typeof stack === 'string' && { stack: framesOf(stack) }),
    ...(cause !== undefined && cause !== null && { cause: describeError(cause) }),
  };
}

/** The same in one line. */
export function inOneLine(error: unknown): string {
  const { message, table, constraint = table, cause } = describeError(error);
  const where = constraint === undefined ? message : `${message} (${constraint})`;
  return cause ? `${where} (${cause.message})` : where;
}

/** The same for a terminal: what went wrong, and where in the program. */
export function explainDefect(error: unknown): string {
  const { stack } = describeError(error);
  return [inOneLine(error), ...(stack ? [stack] : [])].join('\n');
}

type ErrorLike = { readonly [member: string]: unknown; readonly message: string };

/** Some libraries tell of their errors by copies that are none. */
function isErrorLike(error: unknown): error is ErrorLike {
  return (
    typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string'
  );
}

/** Also where it did not come to us by our own pool. */
function isOfPostgres(error: ErrorLike): boolean {
  return 'severity' in error && 'routine' in error;
}

const SQL_STATE = /^[0-9A-Z]{5}$/;
/** What pg says of the line to the database; PostgreSQL's own words come with a SQLSTATE. */
const ABOUT_THE_LINE =
  /Connection terminated(?: unexpectedly| due to connection timeout)?|Query read timeout|timeout exceeded when trying to connect|Cannot use a pool after calling end on the pool/;

function messageOf({ message, code, cause }: ErrorLike, type: string, isOfDatabase: boolean): string {
  if (isOfDatabase) {
    if (typeof code === 'string' && SQL_STATE.test(code)) return `The database refused it: ${code}`;
    return ABOUT_THE_LINE.exec(message)?.[0] ?? 'The database could not be used';
  }
  // tRPC, for one, gives an error the words of its cause.
  if (isErrorLike(cause) && message.includes(cause.message)) return describeError(cause).message;
  if (type === 'SyntaxError') return 'It could not be read';
  return clean(message.split('\n')[0] ?? '');
}

function namesIn(error: ErrorLike): Pick<DescribedError, 'table' | 'column' | 'constraint'> {
  const { table, column, constraint } = error;
  return {
    ...(typeof table === 'string' && { table }),
    ...(typeof column === 'string' && { column }),
    ...(typeof constraint === 'string' && { constraint }),
  };
}

/** A stack begins with the message. */
function framesOf(stack: string): string {
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  return redactSecrets(frames.join('\n'));
}

const ADDRESS = /[^\s"'`<>()[\]{},;:]+@[^\s"'`<>()[\]{},;:]+\.[^\s"'`<>()[\]{},;:]+/g;

/** Whoever refuses something may repeat it: a key, or the address of a person. */
function clean(text: string): string {
  return redactSecrets(text).replace(ADDRESS, '[address]');
}

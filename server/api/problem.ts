import { TRPC_ERROR_CODES_BY_KEY } from '@trpc/server/rpc';
import type { ZodError } from 'zod';
import { type FieldError, PROBLEMS, type Problem, ProblemError } from '../../shared/errors.ts';
import { redactSecrets } from '../../shared/redact.ts';
import { isDatabaseUnavailable, isLockTimeout } from '../database/unavailable.ts';

/**
 * Turns whatever was thrown into something a caller may see. Messages that were not written for callers are
 * replaced, because they carry internals: statements, values, paths.
 */
export function problemOf(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (isLockTimeout(error)) {
    return new ProblemError('internal', 'This account is busy with other calls. Please try again shortly.', {
      status: 503,
      retryAfterSeconds: 3,
      cause: error,
    });
  }
  if (isDatabaseUnavailable(error)) {
    return new ProblemError('internal', 'The database does not answer just now. Please try again shortly.', {
      status: 503,
      retryAfterSeconds: 1,
      cause: error,
    });
  }
  return new ProblemError('internal', 'Something went wrong on our side. Please try again.', {
    cause: error,
  });
}

/** Whether an operator should hear of it: a fault of ours, not of the call. */
export function isFault(problem: ProblemError): boolean {
  return problem.status >= 500;
}

/** The error of a tRPC answer, in tRPC's shape, with the whole problem in `data.problem`. */
export function trpcErrorShape(error: ProblemError, instance: string, path?: string) {
  const problem: Problem = error.toProblem(instance);
  const code = PROBLEMS[error.slug].trpc;
  return {
    message: problem.detail,
    code: TRPC_ERROR_CODES_BY_KEY[code],
    data: {
      code,
      httpStatus: problem.status,
      ...(path !== undefined && { path: redactSecrets(path) }),
      problem,
    },
  };
}

/** The refusal of an input, naming each field at fault. */
export function validationFailed({ issues }: Pick<ZodError, 'issues'>): ProblemError {
  const errors = issues.flatMap(fieldErrors);
  const detail = errors.map(({ field, message }) => (field ? `${field} ${message}` : `The input ${message}`));
  return new ProblemError('validation-failed', `${detail.join('; ')}.`, { errors });
}

function fieldErrors(issue: ZodError['issues'][number]): FieldError[] {
  const at = (path: readonly PropertyKey[]) => path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      field: at([...issue.path, shorten(key)]),
      message: 'is not a parameter of this call',
    }));
  }
  return [{ field: at(issue.path), message: explain(issue) }];
}

/** zod speaks of types; whoever reads this thinks of fields. */
function explain(issue: ZodError['issues'][number]): string {
  switch (issue.code) {
    case 'invalid_type':
      // zod leaves the input out of its issues, and only its own message tells what is missing.
      if (issue.message.endsWith('received undefined')) return 'is required';
      if (issue.message.endsWith('received Infinity')) return `must be at most ${Number.MAX_SAFE_INTEGER}`;
      return `must be ${article(issue.expected)}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`;
    case 'too_big':
      return bound('most', Number(issue.maximum), issue.origin);
    case 'too_small':
      return bound('least', Number(issue.minimum), issue.origin);
    default:
      return issue.message.startsWith('must ') ? issue.message : 'is not valid';
  }
}

function bound(end: 'least' | 'most', size: number, origin: string): string {
  if (origin === 'array') return `must have at ${end} ${size} ${size === 1 ? 'entry' : 'entries'}`;
  return `must be at ${end} ${size}${origin === 'string' ? ' characters' : ''}`;
}

function article(type: string): string {
  const word = type === 'int' ? 'integer' : type;
  return `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`;
}

const SHOWN_CHARACTERS = 64;

function shorten(key: string): string {
  return key.length > SHOWN_CHARACTERS ? `${key.slice(0, SHOWN_CHARACTERS)}…` : key;
}

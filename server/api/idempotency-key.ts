import { ProblemError } from '../../shared/errors.ts';

const PRINTABLE = /^[\x21-\x7e]{1,255}$/;

/** Reads the Idempotency-Key; an empty one counts as absent. Throws `bad-request` for anything unusable. */
export function idempotencyKey(values: readonly string[]): string | null {
  const [value, second] = values;
  if (second !== undefined) throw refusal('must be sent once');
  if (value === undefined || value === '') return null;
  if (!PRINTABLE.test(value))
    throw refusal('must be 1 to 255 printable ASCII characters without white space');
  return value;
}

function refusal(message: string): ProblemError {
  const field = 'Idempotency-Key';
  return new ProblemError('bad-request', `${field} ${message}.`, { errors: [{ field, message }] });
}

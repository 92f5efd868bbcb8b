import type { z } from 'zod';
import { invalidRequest, type StripeError } from './errors.ts';

/** Parses what came over the wire; throws the 400 Stripe answers, naming the parameter in bracket form. */
export function parseParams<S extends z.ZodType>(schema: S, given: unknown): z.output<S> {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  throw firstRefusal(parsed.error.issues, given);
}

function firstRefusal(issues: readonly z.core.$ZodIssue[], given: unknown): StripeError {
  // Stripe names an unknown parameter before it says what is missing, and both before what has a bad value.
  const unknown = issues.find((issue) => issue.code === 'unrecognized_keys');
  if (unknown) {
    const names = unknown.keys.map((key) => bracketed([...unknown.path, key]));
    return invalidRequest(`Received unknown parameter${names.length > 1 ? 's' : ''}: ${names.join(', ')}`, {
      code: 'parameter_unknown',
      ...(names[0] === undefined ? {} : { param: names[0] }),
    });
  }
  const issue = issues.find(({ path }) => valueAt(given, path) === undefined) ?? issues[0];
  if (!issue) return invalidRequest('Invalid request');
  const param = bracketed(issue.path);
  const value = valueAt(given, issue.path);
  if (value === undefined && issue.code !== 'custom')
    return invalidRequest(`Missing required param: ${param}.`, { code: 'parameter_missing', param });
  switch (issue.code) {
    case 'custom': {
      const code: unknown = issue.params?.['code'];
      return invalidRequest(issue.message, { param, ...(typeof code === 'string' ? { code } : {}) });
    }
    case 'too_small':
      return invalidRequest(
        `You passed an empty string for '${param}'. An empty value unsets a parameter, and '${param}' cannot be unset: leave it out or give it a value.`,
        { code: 'parameter_invalid_empty', param },
      );
    case 'too_big':
      return invalidRequest(`Invalid string: ${shown(value)}; must be at most ${issue.maximum} characters`, {
        code: 'parameter_invalid_string_max_length',
        param,
      });
    case 'invalid_value':
      return invalidRequest(`Invalid ${param}: must be one of ${alternatives(issue.values)}`, { param });
    case 'invalid_type':
      return invalidRequest(
        `Invalid ${issue.expected === 'record' ? 'object' : issue.expected}: ${shown(value)}`,
        {
          param,
        },
      );
    default:
      return invalidRequest(`Invalid ${param}: ${issue.message}`, { param });
  }
}

function bracketed(path: readonly PropertyKey[]): string {
  return path.map((step, depth) => (depth === 0 ? String(step) : `[${String(step)}]`)).join('');
}

function valueAt(given: unknown, path: readonly PropertyKey[]): unknown {
  let value = given;
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}

function alternatives(values: readonly unknown[]): string {
  const words = values.map(String);
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')}, or ${words.at(-1)}`;
}

function shown(value: unknown): string {
  const written = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return written.length > 60 ? `${written.slice(0, 60)}…` : written;
}

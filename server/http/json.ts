import { isUtf8 } from 'node:buffer';
import { ProblemError } from '../../shared/errors.ts';

const MAX_DEPTH = 32;

/**
 * Reads a JSON body that means the same to everyone: well-formed UTF-8, at most 32 levels deep, no name twice in
 * one object, and no text that PostgreSQL would refuse. An empty body is undefined. Throws `bad-request`.
 */
export function parseJsonBody(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  if (!isUtf8(body)) throw refusal('is not well-formed UTF-8');
  return parseJson(body.toString('utf8'), 'The body');
}

/** The same for text; `what` names it in the refusal. */
export function parseJson(text: string, what: string): unknown {
  const value = parse(text, what);
  checkStructure(text, what);
  if (!isPlainText(text) || !isStorable(value)) {
    throw refusal('holds a NUL character or half of a surrogate pair', what);
  }
  return value;
}

/** Whether PostgreSQL can store this text: no NUL, no lone surrogate. */
export function isPlainText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refusal('is not JSON', what);
  }
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;

/** Counts levels and names; the text is known to be JSON. */
function checkStructure(text: string, what: string): void {
  const names: (Set<string> | null)[] = [];
  let last = '';
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') {
      names.push(token === '{' ? new Set() : null);
      if (names.length > MAX_DEPTH) throw refusal(`is nested more than ${MAX_DEPTH} levels deep`, what);
    } else if (token === '}' || token === ']') {
      names.pop();
    } else if (token === ':') {
      // Escapes can spell one name in two ways.
      const name = String(JSON.parse(last));
      const seen = names.at(-1);
      if (seen?.has(name)) throw refusal('holds the same name twice in one object', what);
      seen?.add(name);
    }
    last = token;
  }
}

/** Escapes such as \u0000 only show in the parsed value. */
function isStorable(value: unknown): boolean {
  if (typeof value === 'string') return isPlainText(value);
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([name, member]) => isPlainText(name) && isStorable(member));
}

function refusal(why: string, what = 'The body'): ProblemError {
  return new ProblemError('bad-request', `${what} ${why}.`);
}

import { z } from 'zod';
import { ProblemError } from '../../shared/errors.ts';

const contents = z.tuple([z.string(), z.string(), z.int().positive()]);

/** Writes where the next page of a list begins, as text that is good for this list of this account only. */
export function encodeCursor(list: string, accountId: string, position: number): string {
  return Buffer.from(JSON.stringify([list, accountId, position])).toString('base64url');
}

/** Reads what `encodeCursor` wrote for the same list and account; throws `bad-request` for any other text. */
export function decodeCursor(list: string, accountId: string, cursor: string): number {
  const parsed = contents.safeParse(parseJson(Buffer.from(cursor, 'base64url').toString()));
  const position = parsed.data?.[2];
  if (position === undefined || encodeCursor(list, accountId, position) !== cursor) {
    const message = 'is not a cursor this list has given out';
    throw new ProblemError('bad-request', `cursor ${message}.`, { errors: [{ field: 'cursor', message }] });
  }
  return position;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

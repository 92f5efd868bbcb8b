import { z } from 'zod';

/** zod's pattern leaves no room for line breaks, NUL or commas, with which a mail could be sent elsewhere. */
export const emailSchema = z.string().trim().toLowerCase().max(254).pipe(z.email());

const ADDRESS = /^[^\s\p{Cc}<>()[\],;:"\\@]{1,64}@[^\s\p{Cc}<>()[\],;:"\\@]{1,255}$/u;

/**
 * Whether a text is one bare address: no line break, NUL or comma that would make a second recipient or
 * another header of it.
 */
export function isEmailAddress(text: string): boolean {
  return ADDRESS.test(text);
}

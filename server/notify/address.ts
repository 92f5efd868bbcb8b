const ADDRESS = /^[^\s\p{Cc}<>()[\],;:"\\@]{1,64}@[^\s\p{Cc}<>()[\],;:"\\@]{1,255}$/u;

/**
 * Whether a text is one bare address: no line break, NUL or comma that would make a second recipient or
 * another header of it.
 */
export function isEmailAddress(text: string): boolean {
  return ADDRESS.test(text);
}

/** Something that a person can mend. Its message is one sentence that says what is wrong and what to do. */
export class MendableError extends Error {
  override readonly name = 'MendableError';
}

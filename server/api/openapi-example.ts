import type { ProblemError } from '../../shared/errors.ts';

const REQUEST_ID = 'req_01890a5d-ac96-774b-bcce-b302099a8057';

export type ErrorExample = { name: string; summary: string; error: ProblemError };
export type ErrorResponse = { description: string; examples: ErrorExample[]; retryAfter?: true };

/** The document of an example, as it goes over the wire. */
export function exampleValue({ error }: ErrorExample) {
  return error.toProblem(REQUEST_ID);
}

export function example(summary: string, error: ProblemError): ErrorExample {
  return { name: error.code, summary, error };
}

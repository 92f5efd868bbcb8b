import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { headerValues } from './request-context.ts';

export type InternalParts = {
  /** What `Authorization: Bearer …` must carry. */
  readonly token: string;
  /** What the console of the local Stripe shows of this service; absent next to a real Stripe. */
  readonly readConsole?: () => Promise<object>;
};

/** Mounts `/internal/…`, for programs of the operator that hold the service token. Never in the public document. */
export function mountInternal(app: FastifyInstance, { token, readConsole }: InternalParts): void {
  const expected = digest(`Bearer ${token}`);
  app.addHook('onRequest', async (request) => {
    const [header = '', second] = headerValues(request, 'authorization');
    // Equal lengths by hashing, so that the time of the comparison tells nothing.
    if (second !== undefined || !timingSafeEqual(digest(header), expected)) {
      throw new ProblemError('unauthorized', 'Send the service token as "Authorization: Bearer …".');
    }
  });
  if (readConsole) app.get('/internal/console/accounts', async () => await readConsole());
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

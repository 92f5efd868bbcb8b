import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { InternalDeps } from '../api/internal.ts';
import { acceptJson } from './body.ts';
import { createGate } from './gate.ts';
import { headerValues } from './request-context.ts';
import { handleInternalTrpc, sendTrpcProblem } from './trpc.ts';

export type InternalParts = {
  /** What `Authorization: Bearer …` must carry. */
  readonly token: string;
  /** What `/internal/trpc` works with. */
  readonly deps: InternalDeps;
  /** Calls worked on at a time; more are told to come back. */
  readonly maxInFlight?: number;
  /** What the console of the local Stripe shows of this service; absent next to a real Stripe. */
  readonly readConsole?: () => Promise<object>;
};

const MAX_IN_FLIGHT = 256;

/**
 * Mounts `/internal/…`, for programs of the operator that hold the service token. Never in the public document.
 *
 * | what comes                            | is answered                                             |
 * |---------------------------------------|---------------------------------------------------------|
 * | no token, two, or another             | 401                                                     |
 * | a call at `/internal/trpc`            | as `trpc.ts` says                                       |
 * | more at once than are worked on       | 503, `Retry-After: 1`                                   |
 * | the console's question                | 200; 404 next to a real Stripe, where it is not mounted |
 * | anything, where there is no token set | 404, because none of this is mounted                    |
 */
export function mountInternal(app: FastifyInstance, parts: InternalParts): void {
  const { token, deps, maxInFlight = MAX_IN_FLIGHT, readConsole } = parts;
  const expected = digest(`Bearer ${token}`);
  app.addHook('onRequest', async (request) => {
    const [header = '', second] = headerValues(request, 'authorization');
    // Equal lengths by hashing, so that the time of the comparison tells nothing.
    if (second !== undefined || !timingSafeEqual(digest(header), expected)) {
      throw new ProblemError('unauthorized', 'Send the service token as "Authorization: Bearer …".');
    }
  });
  if (readConsole) app.get('/internal/console/accounts', async () => await readConsole());

  acceptJson(app);
  const gate = createGate(maxInFlight);
  app.register(async (scope) => {
    scope.setErrorHandler((error, _request, reply) => sendTrpcProblem(reply, error));
    scope.route({
      method: ['GET', 'POST'],
      url: '/internal/trpc/*',
      exposeHeadRoute: false,
      handler: gate((request, reply) => handleInternalTrpc(request, reply, deps)),
    });
  });
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

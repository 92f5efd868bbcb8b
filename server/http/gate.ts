import type { FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/**
 * Lets at most `most` requests be worked on at a time and answers 503 with Retry-After to the rest at once: a
 * short answer to some is worth more than a late one to all. Bodies still arriving do not count, so that slow
 * clients take nobody's place.
 */
export function createGate(most: number): (handler: Handler) => Handler {
  let inFlight = 0;
  return (handler) => async (request, reply) => {
    if (inFlight >= most) {
      throw new ProblemError(
        'internal',
        'This service has more to do than it can. Please try again shortly.',
        {
          status: 503,
          retryAfterSeconds: 1,
        },
      );
    }
    inFlight += 1;
    try {
      return await handler(request, reply);
    } finally {
      inFlight -= 1;
    }
  };
}

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { createGate } from './gate.ts';
import { answerPreflight } from './headers.ts';
import type { ApiParts } from './request-context.ts';
import { restRoutes } from './rest.ts';
import { handleTrpc, sendTrpcProblem } from './trpc.ts';

const MAX_BODY_BYTES = 100_000;
const JSON_TYPE = /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i;

/** Mounts tRPC at `/trpc` and REST at the documented paths. */
export function mountApi(app: FastifyInstance, parts: ApiParts & { maxInFlight: number }): void {
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES },
    (request, body, done) => {
      if (JSON_TYPE.test(request.headers['content-type'] ?? '')) return done(null, body);
      done(new ProblemError('unsupported-media-type', 'Send the body as application/json in UTF-8.'));
    },
  );
  // Minting waits for Stripe. With one gate for both, a slow Stripe would keep the readers out.
  const reading = createGate(parts.maxInFlight);
  const minting = createGate(parts.maxInFlight);

  for (const { method, url, minting: mints, handler } of restRoutes(parts)) {
    app.route({ method, url, handler: (mints ? minting : reading)(handler) });
    app.options(url, (_request, reply) => answerPreflight(reply, `${String(method)}, OPTIONS`));
  }

  const trpc = (request: FastifyRequest, reply: FastifyReply) => handleTrpc(request, reply, parts);
  app.register(async (scope) => {
    scope.setErrorHandler((error, _request, reply) => sendTrpcProblem(reply, error));
    scope.get('/trpc/*', { exposeHeadRoute: false }, reading(trpc));
    scope.post('/trpc/*', minting(trpc));
  });
  app.options('/trpc/*', (_request, reply) => answerPreflight(reply, 'GET, POST, OPTIONS'));
}

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { acceptJson } from './body.ts';
import { createGate, type InFlight } from './gate.ts';
import { answerPreflight } from './headers.ts';
import type { ApiParts } from './request-context.ts';
import { restRoutes } from './rest.ts';
import { handleTrpc, sendTrpcProblem } from './trpc.ts';

/**
 * Mounts tRPC at `/trpc` and REST at the documented paths. What a call comes to is said in `rest.ts` and `trpc.ts`;
 * at both the same happens before there is a call:
 *
 * | what comes                              | is answered                                      |
 * |-----------------------------------------|--------------------------------------------------|
 * | more at once than are worked on         | 503, `Retry-After: 1`; reads and minting apart   |
 * | a preflight request                     | 204, the methods of the path                     |
 * | another method, or a path of nobody     | 405 with `Allow`, 404                            |
 * | a body over 100 kB, or that is no JSON  | 413, 415                                         |
 */
export function mountApi(app: FastifyInstance, parts: ApiParts & { maxInFlight: InFlight }): void {
  acceptJson(app);
  // Minting waits for Stripe. With one gate for both, a slow Stripe would keep the readers out.
  const reading = createGate(parts.maxInFlight.reading);
  const minting = createGate(parts.maxInFlight.minting);

  const routes = restRoutes(parts);
  for (const { method, url, minting: mints, handler } of routes)
    app.route({ method, url, handler: (mints ? minting : reading)(handler) });
  for (const [url, alike] of Map.groupBy(routes, (route) => route.url)) {
    const methods = [...alike.map(({ method }) => String(method)), 'OPTIONS'].join(', ');
    app.options(url, (_request, reply) => answerPreflight(reply, methods));
  }

  const trpc = (request: FastifyRequest, reply: FastifyReply) => handleTrpc(request, reply, parts);
  app.register(async (scope) => {
    scope.setErrorHandler((error, _request, reply) => sendTrpcProblem(reply, error));
    scope.get('/trpc/*', { exposeHeadRoute: false }, reading(trpc));
    scope.post('/trpc/*', minting(trpc));
  });
  app.options('/trpc/*', (_request, reply) => answerPreflight(reply, 'GET, POST, OPTIONS'));
}

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { acceptJson } from './body.ts';
import { createGate, type InFlight } from './gate.ts';
import { answerPreflight } from './headers.ts';
import type { ApiParts } from './request-context.ts';
import { restRoutes } from './rest.ts';
import { handleTrpc, sendTrpcProblem } from './trpc.ts';

/** Mounts tRPC at `/trpc` and REST at the documented paths. */
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

import { createServer } from 'node:http';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/time.ts';
import { answerClientError, answerExpectation } from './client-error.ts';
import { boundConnections, CONNECTIONS, type ConnectionBounds, oneByOne } from './connections.ts';
import { isTurnedAway } from './gate.ts';
import { setHeaders } from './headers.ts';
import { countBodies, MOST_BODY_BYTES } from './incoming-bodies.ts';
import type { Metrics } from './metrics.ts';
import { sendProblem } from './problems.ts';
import { requestIds } from './request-ids.ts';
import { sendTrpcProblem } from './trpc.ts';

export type ServerDeps = {
  readonly clock: Clock;
  readonly log: FastifyBaseLogger;
  readonly metrics: Metrics;
  /** Whether a proxy in front of us may say where a request comes from. */
  readonly trustProxy?: boolean;
  readonly connections?: ConnectionBounds;
  readonly mostBodyBytes?: number;
};

/** While requests or connections are turned away, one line says so this often; the metrics count the requests. */
const OVERLOAD_LINE_MS = 1_000;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** How long a connection may stand still, for instance because nobody reads its answer. */
const STANDSTILL_TIMEOUT_MS = 70_000;

/**
 * A server without doors: what holds at all of them. Connections, requests of one connection, and bytes of bodies are
 * bounded, slow clients cut off, every answer carries its headers, and every refusal is a problem in words.
 */
export function openServer(deps: ServerDeps): FastifyInstance {
  const { clock, log, connections = CONNECTIONS, mostBodyBytes = MOST_BODY_BYTES } = deps;
  const newRequestId = requestIds(clock);
  const mayTellOfRefusal = onceIn(OVERLOAD_LINE_MS);
  const app = Fastify({
    loggerInstance: log,
    // A child logger for each request costs more than naming the request in the few lines that are written.
    childLoggerFactory: (logger) => logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: newRequestId,
    requestIdHeader: false,
    trustProxy: deps.trustProxy ?? false,
    // The contract's schemas are zod's. Fastify's compilers for its own would be loaded for nothing.
    schemaController: { compilersFactory: { buildValidator: refuseSchema, buildSerializer: refuseSchema } },
    serverFactory(handler) {
      const server = createServer(
        {
          headersTimeout: HEADERS_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
          // How often Node looks for clients that are too slow; its own default of 30 s would make the limits vague.
          connectionsCheckingInterval: 1_000,
          requireHostHeader: false,
        },
        oneByOne(handler, connections.waiting),
      );
      server.on('checkExpectation', (request, response) =>
        answerExpectation(request, response, newRequestId()),
      );
      server.setTimeout(STANDSTILL_TIMEOUT_MS);
      boundConnections(server, connections, () => {
        if (mayTellOfRefusal())
          log.warn({ open: connections.inAll }, 'connections are refused: too many are open');
      });
      return server;
    },
    // Whoever follows readiness is served until the last connection is closed.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 2_048 },
    frameworkErrors: (error, request, reply) => {
      setHeaders(request, reply);
      // A path that cannot be decoded leads nowhere, but whoever speaks tRPC understands nothing else.
      if (request.url.startsWith('/trpc/')) sendTrpcProblem(reply, error);
      else sendProblem(reply, error);
    },
    clientErrorHandler: (error, socket) => answerClientError(error, socket, newRequestId()),
  });
  app.addHook('preParsing', countBodies(mostBodyBytes));
  observe(app, log, deps.metrics);
  refuseUnknown(app);
  app.removeAllContentTypeParsers();
  app.setErrorHandler((error, _request, reply) => sendProblem(reply, error));
  return app;
}

function refuseSchema(): never {
  throw new Error('Routes are described by procedures, not by JSON schemas');
}

/** Listens, and returns the port; 0 takes any free one. */
export async function listenOn(app: FastifyInstance, port: number, host: string): Promise<number> {
  await app.listen({ port, host });
  const address = app.server.address();
  return address !== null && typeof address === 'object' ? address.port : port;
}

function observe(app: FastifyInstance, log: FastifyBaseLogger, metrics: Metrics): void {
  const mayTellOfOverload = onceIn(OVERLOAD_LINE_MS);
  const isDebugging = log.level === 'debug' || log.level === 'trace';
  // To look for secrets takes ten times as long as the line, and none of its five members can hold one.
  const lines = log.child({}, { redact: [] });
  app.addHook('onRequest', (request, reply, done) => {
    setHeaders(request, reply);
    const { host, 'content-encoding': encoding } = request.headers;
    if (host === undefined && request.raw.httpVersion === '1.1') {
      done(new ProblemError('bad-request', 'The Host header is missing.'));
    } else if (encoding !== undefined && encoding !== 'identity') {
      done(new ProblemError('unsupported-media-type', 'Send the body without a content encoding.'));
    } else {
      done();
    }
  });
  app.addHook('onResponse', (request, reply, done) => {
    metrics.countRequest(request, reply);
    // A line for each successful read would cost as much as a tenth of the read itself, and one for each
    // request turned away half as much as turning it away.
    const isQuiet =
      (request.method === 'GET' && reply.statusCode < 400) || (isTurnedAway(request) && !mayTellOfOverload());
    const level = isQuiet ? 'debug' : 'info';
    if (level === 'info' || isDebugging) {
      const { method, routeOptions, id } = request;
      lines[level](
        {
          request_id: id,
          method,
          route: routeOptions.url ?? 'none',
          status: reply.statusCode,
          ms: Math.round(reply.elapsedTime * 10) / 10,
        },
        'request completed',
      );
    }
    done();
  });
}

/** True at the first call, and at the first after each pause. */
function onceIn(pauseMs: number): () => boolean {
  let nextAtMs = 0;
  return () => {
    const nowMs = performance.now();
    if (nowMs < nextAtMs) return false;
    nextAtMs = nowMs + pauseMs;
    return true;
  };
}

/** Unknown paths are 404, known ones with another method 405 with `Allow`. Sees the routes mounted after it. */
function refuseUnknown(app: FastifyInstance): void {
  const methodsOf = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const methods = methodsOf.get(url) ?? new Set();
    for (const one of [method].flat()) methods.add(one);
    methodsOf.set(url, methods);
  });
  app.setNotFoundHandler((request, reply) => {
    const [path = ''] = request.url.split('?');
    const methods =
      methodsOf.get(path) ??
      methodsOf.get(path.replace(/^(\/trpc\/).+/s, '$1*')) ??
      [...methodsOf].find(([url]) => isOfPattern(path, url))?.[1];
    if (!methods) return sendProblem(reply, new ProblemError('not-found', 'There is nothing at this path.'));
    const allow = [...methods].sort().join(', ');
    reply.header('allow', allow);
    return sendProblem(reply, new ProblemError('method-not-allowed', `This path answers to ${allow}.`));
  });
}

/** Whether a path is one of a route with parameters, such as `/v1/webhooks/:id`. */
function isOfPattern(path: string, url: string): boolean {
  if (!url.includes(':')) return false;
  const [given, wanted] = [path.split('/'), url.split('/')];
  return (
    given.length === wanted.length &&
    wanted.every((segment, at) => (segment.startsWith(':') ? given[at] !== '' : segment === given[at]))
  );
}

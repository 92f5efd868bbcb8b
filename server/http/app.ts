import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/time.ts';
import type { UseCases } from '../api/context.ts';
import type { Database } from '../database/connection.ts';
import { mountApi } from './api-door.ts';
import { answerClientError } from './client-error.ts';
import { type InFlight, isTurnedAway, MOST_IN_FLIGHT } from './gate.ts';
import { setHeaders } from './headers.ts';
import { mountHealth } from './health.ts';
import { createLimiter, RATE_LIMITS, type RateLimits } from './limits.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { mountPages } from './pages.ts';
import { sendProblem } from './problems.ts';
import { requestIds } from './request-ids.ts';
import { mountStripeDoor, type WebhookParts } from './stripe-door.ts';

export type HttpDeps = {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: FastifyBaseLogger;
  /** Where this service counts; one of its own where none is given. */
  readonly metrics?: Metrics;
  /** Mounts tRPC, REST and the pages when given. */
  readonly api?: { readonly useCases: UseCases; readonly limits?: RateLimits };
  /** Mounts the door for Stripe when given. */
  readonly webhooks?: Pick<WebhookParts, 'takeIn'>;
  /** True from the moment the process has been told to stop; `/readyz` says so. */
  readonly isDraining?: () => boolean;
  /** Whether a proxy in front of us may say where a request comes from. */
  readonly trustProxy?: boolean;
  readonly maxInFlight?: InFlight;
};

/** While requests are turned away, one line says so this often; the metrics count them all. */
const OVERLOAD_LINE_MS = 1_000;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

/** Puts the doors of the service together; nothing listens until the caller says so. */
export function buildHttp(deps: HttpDeps): FastifyInstance {
  const { db, clock, log, isDraining = () => false, maxInFlight = MOST_IN_FLIGHT } = deps;
  const newRequestId = requestIds(clock);
  const app = Fastify({
    loggerInstance: log,
    // A child logger for each request costs more than naming the request in the few lines that are written.
    childLoggerFactory: (logger) => logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: newRequestId,
    requestIdHeader: false,
    trustProxy: deps.trustProxy ?? false,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // How often Node looks for clients that are too slow; its own default of 30 s would make the limits vague.
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      requireHostHeader: false,
    },
    // Whoever follows readiness is served until the last connection is closed.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 2_048 },
    frameworkErrors: (error, request, reply) => {
      setHeaders(request, reply);
      sendProblem(reply, error);
    },
    clientErrorHandler: (error, socket) => answerClientError(error, socket, newRequestId()),
  });
  const metrics = deps.metrics ?? createMetrics(db);
  observe(app, log, metrics);
  refuseUnknown(app);
  app.removeAllContentTypeParsers();
  app.setErrorHandler((error, _request, reply) => sendProblem(reply, error));

  mountHealth(app, { db, metrics, isDraining });
  const { api, webhooks } = deps;
  if (api) {
    const limiter = createLimiter(api.limits ?? RATE_LIMITS);
    app.register(async (scope) =>
      mountApi(scope, { db, clock, limiter, useCases: api.useCases, maxInFlight }),
    );
    mountPages(app);
  }
  if (webhooks) {
    app.register(async (scope) =>
      mountStripeDoor(scope, { takeIn: webhooks.takeIn, metrics, maxInFlight: maxInFlight.deliveries }),
    );
  }
  return app;
}

function observe(
  app: FastifyInstance,
  log: FastifyBaseLogger,
  metrics: ReturnType<typeof createMetrics>,
): void {
  const mayTellOfOverload = onceIn(OVERLOAD_LINE_MS);
  const isDebugging = log.level === 'debug' || log.level === 'trace';
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
      log[level](
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

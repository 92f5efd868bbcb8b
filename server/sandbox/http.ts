import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { authenticate } from './authenticate.ts';
import { StripeError } from './errors.ts';
import { expand, type Includes } from './expand.ts';
import { spoil } from './faults.ts';
import { decodeForm } from './form.ts';
import { claimIdempotencyKey, type Remembered } from './idempotency.ts';
import { arrayOf, params, parseParams, text } from './params.ts';
import type { Route } from './route.ts';
import type { Answer } from './send.ts';
import { API_VERSION, type World } from './world.ts';

export interface ApiOptions {
  readonly world: World;
  readonly routes: readonly Route[];
  readonly includes: Includes;
}

/** Fastify plugin with the API routes: authentication, parameters, idempotency, expansion, faults, errors. */
export async function api(app: FastifyInstance, options: ApiOptions): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  for (const route of options.routes) {
    app.route({
      method: route.method,
      url: route.path,
      handler: (request, reply) => handle(options, route, request, reply),
    });
  }
}

/** A refusal as the bytes Stripe sends. */
export function errorAnswer(error: StripeError): Answer {
  const { status, type, message, code, param, declineCode, extra } = error.fields;
  const body = {
    error: {
      ...(code === undefined
        ? {}
        : { code, doc_url: `https://stripe.com/docs/error-codes/${code.replaceAll('_', '-')}` }),
      ...(declineCode === undefined ? {} : { decline_code: declineCode }),
      message,
      ...(param === undefined ? {} : { param }),
      type,
      ...extra,
    },
  };
  return { status, body: JSON.stringify(body), headers: {} };
}

async function handle(
  options: ApiOptions,
  route: Route,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const requestId = `req_${randomBytes(7).toString('hex')}`;
  reply.headers({
    'request-id': requestId,
    'stripe-version': API_VERSION,
    'cache-control': 'no-cache, no-store',
  });
  const perform = (): Answer => {
    try {
      return answer(options, route, request, requestId);
    } catch (error) {
      if (error instanceof StripeError) return errorAnswer(error);
      request.log.error({ err: error, requestId }, 'the local Stripe failed');
      return errorAnswer(internalFault(requestId));
    }
  };
  return spoil(options.world, request, reply, perform);
}

/** 500 `api_error`, for a fault of our own. */
export function internalFault(requestId: string): StripeError {
  return new StripeError({
    status: 500,
    type: 'api_error',
    message: `The local Stripe failed on request ${requestId}. This is a fault of the sandbox itself: see its log.`,
  });
}

function answer(options: ApiOptions, route: Route, request: FastifyRequest, requestId: string): Answer {
  const { world, includes } = options;
  authenticate(request.headers.authorization);
  const body = typeof request.body === 'string' ? request.body : '';
  const query = request.url.split('?', 2)[1] ?? '';
  // A GET has its parameters in the address, a POST in the body, a DELETE in either.
  const form = decodeForm(
    [route.method === 'POST' ? '' : query, body].filter((part) => part !== '').join('&'),
  );
  const { expand: paths, ...rest } = form;
  const expanded = paths === undefined ? [] : parseParams(expandParam, { expand: paths }).expand;
  const given = parseParams(route.params, rest);
  const id = idOf(request);

  const run = (): Answer => {
    const result = route.run(world, { id, params: given });
    return { status: 200, body: JSON.stringify(expand(world, includes, result, expanded)), headers: {} };
  };
  const key = route.method === 'POST' ? request.headers['idempotency-key'] : undefined;
  if (typeof key !== 'string')
    return world.duringRequest({ id: requestId, idempotencyKey: null }, () => world.atomically(run));

  const claim = claimIdempotencyKey(world, {
    key,
    path: request.url.split('?', 1)[0] ?? '',
    body,
    requestId,
  });
  if (claim.outcome === 'replay') return claim.answer;
  return world.duringRequest({ id: requestId, idempotencyKey: key }, () =>
    runOnce(world, run, claim.remember),
  );
}

/** The effect and the memory of it are one transaction: a process killed between the two leaves neither. */
function runOnce(world: World, run: () => Answer, remember: (answer: Remembered) => void): Answer {
  try {
    return world.atomically(() => {
      const done = keepingChanges(run);
      remember(done);
      return done;
    });
  } catch (error) {
    if (!(error instanceof StripeError)) throw error;
    const refused = errorAnswer(error);
    remember(refused);
    return refused;
  }
}

function keepingChanges(run: () => Answer): Answer {
  try {
    return run();
  } catch (error) {
    if (error instanceof StripeError && error.fields.keepsChanges) return errorAnswer(error);
    throw error;
  }
}

const expandParam = params({ expand: arrayOf(text) });

function idOf(request: FastifyRequest): string {
  const { params: named } = request;
  const id: unknown = typeof named === 'object' && named !== null && 'id' in named ? named.id : undefined;
  return typeof id === 'string' ? id : '';
}

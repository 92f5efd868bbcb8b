import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { authenticate } from './authenticate.ts';
import { withFirstLines } from './billing/first-lines.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { expand, type Includes } from './expand.ts';
import { spoil, takeApiFault } from './faults.ts';
import { decodeForm } from './form.ts';
import { claimIdempotencyKey, keyInUse, type Remembered } from './idempotency.ts';
import { arrayOf, params, text } from './params.ts';
import { parseParams } from './parse-params.ts';
import type { Route } from './route.ts';
import { type Answer, errorAnswer, send } from './send.ts';
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
  /** Idempotency keys of calls that a fault holds up: handlers are synchronous, so nothing else ever waits. */
  const busy = new Set<string>();
  for (const route of options.routes) {
    app.route({
      method: route.method,
      url: route.path,
      handler: (request, reply) => handle(options, route, request, reply, busy),
    });
  }
}

async function handle(
  options: ApiOptions,
  route: Route,
  request: FastifyRequest,
  reply: FastifyReply,
  busy: Set<string>,
): Promise<FastifyReply> {
  const requestId = `req_${randomBytes(7).toString('hex')}`;
  reply.headers({
    'request-id': requestId,
    'stripe-version': API_VERSION,
    'cache-control': 'no-cache, no-store',
  });
  const key = idempotencyKey(request);
  const perform = (): Answer => {
    if (key !== null && busy.has(key)) return errorAnswer(keyInUse(key));
    try {
      return answer(options, route, request, requestId);
    } catch (error) {
      if (error instanceof StripeError) return errorAnswer(error);
      // Not a refusal but a defect: the client gets a 500 it can read, the log gets the cause.
      request.log.error({ err: error, requestId }, 'the local Stripe failed');
      return errorAnswer(internalFault(requestId));
    }
  };
  const fault = takeApiFault(options.world, request.method, request.url);
  if (fault === null) return send(reply, perform());
  return spoil(fault, reply, perform, async (wait) => {
    if (key === null || busy.has(key)) return wait();
    busy.add(key);
    try {
      await wait();
    } finally {
      busy.delete(key);
    }
  });
}

/** 500 `api_error`, for a fault of our own. */
export function internalFault(requestId: string): StripeError {
  return new StripeError({
    status: 500,
    type: 'api_error',
    message: `The local Stripe failed on request ${requestId}. This is a fault of its own: see its log.`,
  });
}

function answer(options: ApiOptions, route: Route, request: FastifyRequest, requestId: string): Answer {
  const { world, includes } = options;
  authenticate(request.headers.authorization);
  const body = typeof request.body === 'string' ? request.body : '';
  if (body !== '' && request.headers['content-type']?.startsWith('application/json')) {
    throw invalidRequest(
      'Invalid request: this API reads form-encoded bodies. Check that your POST content type is application/x-www-form-urlencoded.',
    );
  }
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
    const result = named(id, () => route.run(world, { id, params: given }));
    const shown = withFirstLines(expand(world, includes, result, expanded));
    return { status: 200, body: JSON.stringify(shown), headers: {} };
  };
  const key = idempotencyKey(request);
  if (key === null)
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

/** What is missing is 404 when the address itself names it, whatever Stripe calls that parameter. */
function named(id: string, run: () => object): object {
  try {
    return run();
  } catch (error) {
    if (error instanceof StripeError && id !== '' && error.fields.missingId === id)
      throw new StripeError({ ...error.fields, status: 404 });
    throw error;
  }
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

/** Only a POST has one that counts: reading and deleting are idempotent by themselves. */
function idempotencyKey(request: FastifyRequest): string | null {
  const key = request.method === 'POST' ? request.headers['idempotency-key'] : undefined;
  return typeof key === 'string' && key !== '' ? key : null;
}

const expandParam = params({ expand: arrayOf(text) });

function idOf(request: FastifyRequest): string {
  const { params: named } = request;
  const id: unknown = typeof named === 'object' && named !== null && 'id' in named ? named.id : undefined;
  return typeof id === 'string' ? id : '';
}

import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { authenticate } from './authenticate.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { internalFault } from './http.ts';
import { errorAnswer, send } from './send.ts';

/**
 * Whatever no route answers still gets Stripe's `error` member: stripe-node takes a non-2xx answer without one for
 * the object it asked for.
 */
export function answerEverything(app: FastifyInstance): void {
  app.setErrorHandler(refuse);
  app.setNotFoundHandler((request, reply) => {
    const refusal = notFound(request);
    return send(reply, errorAnswer(refusal));
  });
}

/** For Fastify's `frameworkErrors`: addresses that cannot even be routed. */
export function refuse(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  send(reply, errorAnswer(asStripeError(error, request)));
}

/** For Fastify's `clientErrorHandler`: bytes that are not HTTP, or headers beyond all measure. */
export function badRequestOnSocket(_error: Error, socket: Socket): void {
  if (!socket.writable) return void socket.destroy();
  const { body } = errorAnswer(
    invalidRequest('Invalid request: this is not an HTTP request the local Stripe can read.'),
  );
  socket.end(
    `HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function asStripeError(error: FastifyError, request: FastifyRequest): StripeError {
  if (error instanceof StripeError) return error;
  const status = error.statusCode ?? 500;
  if (status >= 400 && status < 500)
    return new StripeError({
      status,
      type: 'invalid_request_error',
      message: `Invalid request: ${error.message}`,
    });
  request.log.error({ err: error }, 'the local Stripe failed');
  return internalFault(request.id);
}

function notFound(request: FastifyRequest): StripeError {
  const path = request.url.split('?', 1)[0] ?? '';
  // A hook asks for no key, so what is missing is not one.
  if (path.startsWith('/_sandbox'))
    return new StripeError({
      status: 404,
      type: 'invalid_request_error',
      message: `There is no hook ${request.method} ${path}. The README of the local Stripe lists them.`,
    });
  try {
    authenticate(request.headers.authorization);
  } catch (error) {
    if (error instanceof StripeError) return error;
    throw error;
  }
  return new StripeError({
    status: 404,
    type: 'invalid_request_error',
    message: `Unrecognized request URL (${request.method}: ${path}). The local Stripe covers a part of the API, which its README lists.`,
  });
}

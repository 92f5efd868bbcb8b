import type { FastifyReply, FastifyRequest } from 'fastify';

const EXPOSED = [
  'idempotent-replayed',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
  'retry-after',
  'www-authenticate',
  'x-ratelimit-bucket',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'x-request-id',
].join(', ');

const EVERYWHERE = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
  'strict-transport-security': 'max-age=31536000',
  'cache-control': 'no-store',
  // Any page may read the answers: there are no cookies, and without a key they hold nothing.
  'access-control-allow-origin': '*',
  'access-control-expose-headers': EXPOSED,
};

/** The headers of every answer. Pages that show something widen the content security policy for themselves. */
export function setHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.headers(EVERYWHERE).header('x-request-id', request.id);
}

/** Answers a preflight request; credentials are never allowed. */
export function answerPreflight(reply: FastifyReply, methods: string): FastifyReply {
  return reply
    .code(204)
    .headers({
      allow: methods,
      'access-control-allow-methods': methods,
      'access-control-allow-headers':
        'authorization, content-type, idempotency-key, trpc-accept, x-driftstack-account',
      'access-control-max-age': '600',
    })
    .send();
}

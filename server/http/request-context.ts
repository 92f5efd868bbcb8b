import type { FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { ApiDeps, Context } from '../api/context.ts';
import { authenticate, type Caller } from '../billing/caller.ts';
import type { Limiter } from './limits.ts';

/** What the API needs to answer. */
export type ApiParts = {
  readonly deps: ApiDeps;
  readonly limiter: Limiter;
};

/** The context of one HTTP request, for REST and tRPC alike. X-Driftstack-Account is not looked at. */
export function openContext(request: FastifyRequest, reply: FastifyReply, parts: ApiParts): Context {
  let caller: Promise<Caller> | undefined;
  return {
    requestId: request.id,
    idempotencyKeys: () => headerValues(request, 'idempotency-key'),
    deps: parts.deps,
    authenticate() {
      caller ??= identify(request, parts);
      return caller;
    },
    admit: (who, bucket) => parts.limiter.admit(reply, who, bucket, parts.deps.clock.now().getTime()),
    markReplayed: () => void reply.header('idempotent-replayed', '1'),
  };
}

/** Every value of a header that was sent; Node joins or drops all but the first. */
export function headerValues({ raw }: FastifyRequest, name: string): string[] {
  const { rawHeaders } = raw;
  const values: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const header = rawHeaders[at];
    if (header?.length === name.length && header.toLowerCase() === name)
      values.push(rawHeaders[at + 1] ?? '');
  }
  return values;
}

async function identify(request: FastifyRequest, { deps, limiter }: ApiParts): Promise<Caller> {
  const now = deps.clock.now();
  try {
    return await authenticate(deps.db, headerValues(request, 'authorization'), now);
  } catch (error) {
    if (error instanceof ProblemError && error.status === 401) {
      limiter.countFailure(request.ip, now.getTime());
    }
    throw error;
  }
}

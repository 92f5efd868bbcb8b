import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { Refusal } from './mail-input.ts';
import type { World } from './world.ts';

const KEY_LIFETIME_SECONDS = 24 * 60 * 60;

/**
 * Runs `work` once per idempotency key within 24 hours; the same body again gets the same answer again. Only what
 * was taken in is remembered: a key whose request was refused is still free.
 */
export function once<T extends object>(
  world: World,
  request: FastifyRequest,
  work: (body: unknown, key: string | null) => T,
): T {
  const raw = typeof request.body === 'string' ? request.body : '';
  const header = request.headers['idempotency-key'];
  if (header === undefined) return world.atomically(() => work(parse(raw), null));
  if (typeof header !== 'string' || header.length < 1 || header.length > 256)
    throw new Refusal(400, 'invalid_idempotency_key', 'The key must be between 1-256 chars.');
  const id = header;
  // One key is for one request, whichever of the two addresses it went to.
  const bodyHash = createHash('sha256').update(`${request.routeOptions.url} ${raw}`).digest('hex');
  const known = world.hidden.get<{ bodyHash: string; at: number; answer: T }>('mail_key', id);
  if (known && known.at > world.now() - KEY_LIFETIME_SECONDS) {
    if (known.bodyHash !== bodyHash)
      throw new Refusal(
        409,
        'invalid_idempotent_request',
        'Same idempotency key used with a different request payload.',
      );
    if (world.hidden.get('mail_under_way', id) === undefined) return known.answer;
    world.hidden.remove('mail_under_way', id);
    throw new Refusal(
      409,
      'concurrent_idempotent_requests',
      'Same idempotency key used while original request is still in progress.',
    );
  }
  return world.atomically(() => {
    const answer = work(parse(raw), header);
    world.hidden.put('mail_key', id, { bodyHash, at: world.now(), answer });
    return answer;
  });
}

/** Lets the next request with this key hear that the one before it has not ended yet. */
export function underWay(world: World, key: string): void {
  world.hidden.put('mail_under_way', key, {});
}

function parse(raw: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    throw new Refusal(422, 'validation_error', 'The request body is not valid JSON.');
  }
}

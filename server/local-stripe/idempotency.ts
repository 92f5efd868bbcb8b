import { createHash } from 'node:crypto';
import { invalidRequest, StripeError } from './errors.ts';
import type { Answer } from './send.ts';
import type { World } from './world.ts';

const KEPT_SECONDS = 24 * 60 * 60;

/** The answer that is kept under a key and replayed for 24 hours. */
export type Remembered = Pick<Answer, 'status' | 'body'>;

interface Entry {
  readonly path: string;
  /** Hash of the body byte by byte. */
  readonly request: string;
  readonly requestId: string;
  readonly answer: Remembered;
  readonly created: number;
}

type Claim =
  | { readonly outcome: 'replay'; readonly answer: Answer }
  | { readonly outcome: 'first'; readonly remember: (answer: Remembered) => void };

/**
 * Looks an Idempotency-Key up. The first request under it gets `remember`, to be called in the transaction of its
 * effect; the same request later gets the answer again; another request under it throws Stripe's 400.
 */
export function claimIdempotencyKey(
  world: World,
  call: { key: string; path: string; body: string; requestId: string },
): Claim {
  const { key, path, body, requestId } = call;
  if (key.length > 255)
    throw invalidRequest('Idempotency keys can have up to 255 characters.', {
      code: 'idempotency_key_invalid',
    });
  const request = createHash('sha256').update(body).digest('base64');
  const known = world.hidden.get<Entry>('idempotency', key);
  if (known === undefined || known.created + KEPT_SECONDS <= world.now()) {
    return {
      outcome: 'first',
      remember: ({ status, body: answered }) => {
        const entry: Entry = {
          path,
          request,
          requestId,
          answer: { status, body: answered },
          created: world.now(),
        };
        world.hidden.put('idempotency', key, entry);
      },
    };
  }
  if (known.path !== path) {
    throw idempotencyError(
      `Keys for idempotent requests can only be used for the same endpoint they were first used for ('${known.path}'). Use a key other than '${key}' if you meant another request.`,
    );
  }
  if (known.request !== request) {
    throw idempotencyError(
      `Keys for idempotent requests can only be used with the same parameters they were first used with. Use a key other than '${key}' if you meant another request.`,
    );
  }
  return {
    outcome: 'replay',
    answer: {
      ...known.answer,
      headers: { 'idempotent-replayed': 'true', 'original-request': known.requestId },
    },
  };
}

/** Forgets keys older than 24 hours; to be called now and then, so that a long-lived local Stripe does not grow. */
export function forgetOldIdempotencyKeys(world: World): void {
  world.atomically(() => {
    for (const { id, value } of world.hidden.all<Entry>('idempotency')) {
      if (value.created + KEPT_SECONDS > world.now()) break;
      world.hidden.remove('idempotency', id);
    }
  });
}

/** 409, while the first request under a key is still being worked on. */
export function keyInUse(key: string): StripeError {
  return new StripeError({
    status: 409,
    type: 'idempotency_error',
    code: 'idempotency_key_in_use',
    message: `There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through): ${key}. Please try again later.`,
  });
}

function idempotencyError(message: string): StripeError {
  return new StripeError({ status: 400, type: 'idempotency_error', message });
}

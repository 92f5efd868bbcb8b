import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { StripeError } from './errors.ts';
import { type Answer, errorAnswer, send } from './send.ts';
import type { World } from './world.ts';

/** What goes wrong with the next API calls, on order. `effect` says whether the call takes effect all the same. */
export type ApiFault =
  /** 429, with Retry-After or without. */
  | { readonly kind: 'rate_limit'; readonly retryAfterSeconds: number | null }
  | { readonly kind: 'server_error'; readonly status: 500 | 502 | 503 | 504; readonly effect: boolean }
  /** No answer at all: the connection stays open until the client gives up. */
  | { readonly kind: 'timeout'; readonly effect: boolean }
  | { readonly kind: 'hang_up'; readonly effect: boolean }
  /** The effect happens; half of the body arrives. */
  | { readonly kind: 'truncate' }
  /** The effect happens; the body is not JSON. */
  | { readonly kind: 'garbage' }
  | { readonly kind: 'latency'; readonly ms: number };

export interface ApiFaultOrder {
  readonly fault: ApiFault;
  /** Only calls with this method; null for any. */
  readonly method: string | null;
  /** Only calls whose path begins so (`/v1/checkout`); null for any. */
  readonly path: string | null;
  /** How many more calls it spoils. */
  readonly times: number;
}

/** A client that waits longer than this is cut off, so that nothing is held for ever. */
const HELD_MS = 120_000;

/** Orders a fault for the next API calls; answers its id. */
export function orderApiFault(world: World, order: ApiFaultOrder): string {
  const id = `fault_${randomBytes(8).toString('hex')}`;
  world.hidden.put('api_fault', id, order);
  return id;
}

/** Takes the first fault that is ordered for this call, if any; one time of it is used up. */
export function takeApiFault(world: World, method: string, path: string): ApiFault | null {
  for (const { id, value } of world.hidden.all<ApiFaultOrder>('api_fault')) {
    if (value.method !== null && value.method !== method) continue;
    if (value.path !== null && !path.startsWith(value.path)) continue;
    if (value.times > 1) world.hidden.put('api_fault', id, { ...value, times: value.times - 1 });
    else world.hidden.remove('api_fault', id);
    return value.fault;
  }
  return null;
}

/**
 * Answers a call spoiled as ordered. `perform` does the work; `whileBusy` marks the call as in progress while it
 * waits, so that the same idempotency key meanwhile gets Stripe's 409.
 */
export async function spoil(
  fault: ApiFault,
  reply: FastifyReply,
  perform: () => Answer,
  whileBusy: (wait: () => Promise<void>) => Promise<void>,
): Promise<FastifyReply> {
  switch (fault.kind) {
    case 'rate_limit':
      if (fault.retryAfterSeconds !== null) reply.header('retry-after', String(fault.retryAfterSeconds));
      return send(reply, errorAnswer(RATE_LIMITED));
    case 'server_error':
      if (fault.effect) perform();
      return send(reply, errorAnswer(serverError(fault.status)));
    case 'timeout': {
      if (fault.effect) perform();
      const { socket } = reply.request;
      reply.hijack();
      const cut = setTimeout(() => socket.destroy(), HELD_MS).unref();
      socket.once('close', () => clearTimeout(cut));
      return reply;
    }
    case 'hang_up':
      if (fault.effect) perform();
      reply.hijack();
      reply.request.socket.destroy();
      return reply;
    case 'truncate':
      return truncate(reply, perform());
    case 'garbage':
      return send(reply, {
        ...perform(),
        body: '<html><head><title>Proxy error</title></head><body>{"id": ',
      });
    case 'latency':
      await whileBusy(() => sleep(fault.ms, undefined, { ref: false }));
      return send(reply, perform());
    default:
      return fault satisfies never;
  }
}

function truncate(reply: FastifyReply, { status, body }: Answer): FastifyReply {
  const bytes = Buffer.from(body);
  reply.hijack();
  reply.raw.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
  reply.raw.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => reply.request.socket.destroy());
  return reply;
}

const RATE_LIMITED = new StripeError({
  status: 429,
  type: 'rate_limit_error',
  code: 'rate_limit',
  message: 'Request rate limit exceeded. (A fault that was ordered from the local Stripe.)',
});

function serverError(status: number): StripeError {
  return new StripeError({
    status,
    type: 'api_error',
    message: 'Something went wrong on our end. (A fault that was ordered from the local Stripe.)',
  });
}

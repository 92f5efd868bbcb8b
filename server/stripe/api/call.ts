import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import Stripe from 'stripe';
import { ProblemError } from '../../../shared/errors.ts';
import { inTime } from '../../database/in-time.ts';
import type { Call, CallLimiter, Urgency } from './limiter.ts';
import { isPassing, translate } from './refusal.ts';

/** How long Stripe may keep us waiting: one try, and all tries of a budget together (`performance.now()`). */
export type Patience = {
  readonly tryMs: number;
  readonly endsAtMs: number;
  /** Who counts our calls, and who waits for this one. */
  readonly limiter: CallLimiter;
  readonly urgency: Urgency;
};

const MOST_TRIES = 4;
const SHORTEST_TRY_MS = 50;
const FIRST_BACK_OFF_MS = 500;

/**
 * Makes one call to Stripe within the patience given. The SDK repeats what the network lost; a plain 429 and a
 * key still in use, which it does not repeat, are tried again here. Throws a `ProblemError` that a caller may
 * see, with Stripe's own error as its cause.
 */
export async function callStripe<T extends { object: string }>(
  patience: Patience,
  expected: T['object'],
  attempt: (options: { timeout: number }) => Promise<T>,
): Promise<T> {
  const { limiter, urgency, tryMs, endsAtMs } = patience;
  for (let tries = 1; ; tries++) {
    const leftMs = endsAtMs - performance.now();
    if (leftMs < SHORTEST_TRY_MS) throw tooSlow();
    const refused = Promise.withResolvers<never>();
    const asking: Asking = {
      take: (endpoint) => limiter.turn({ urgency, endpoint, endsAtMs: endsAtMs - SHORTEST_TRY_MS }),
      refuse: () => refused.reject(tooSlow()),
      endpoint: '',
    };
    try {
      const timeout = Math.ceil(Math.min(tryMs, leftMs));
      const answering = asked.run(asking, attempt, { timeout });
      // The SDK's timeout restarts with every byte and every retry; this bound holds whatever the network does.
      const answer = await inTime(Promise.race([answering, refused.promise]), leftMs, tooSlow);
      // stripe-node hands over any JSON without an `error` member as if it were the object asked for, whatever
      // its status: a proxy's error page in JSON would otherwise pass for a customer.
      if (answer.object !== expected) throw notUnderstood();
      return answer;
    } catch (error) {
      const waitMs = backOffMs(error, tries);
      const limited = limitIn(error);
      if (limited !== null)
        limiter.hold(waitMs ?? FIRST_BACK_OFF_MS, limited === 'endpoint' ? asking.endpoint : undefined);
      if (waitMs === null || performance.now() + waitMs >= endsAtMs) throw translate(error);
      await delay(waitMs);
    }
  }
}

/** A call that is being made, for whoever sends its requests. */
type Asking = {
  take(endpoint: Call['endpoint']): Promise<boolean>;
  /** Ends the call, as its turn cannot come in time. */
  refuse(): void;
  endpoint: string;
};
const asked = new AsyncLocalStorage<Asking>();

/**
 * What the SDK sends its requests by. Each takes a turn, those as well by which the SDK itself repeats what the network
 * lost: Stripe counts what arrives. None is sent once the call it belongs to has ended.
 */
export function createCountedClient(): Stripe.HttpClient {
  const client = Stripe.createNodeHttpClient();
  return {
    getClientName: () => client.getClientName(),
    async makeRequest(host, port, path, method, ...rest) {
      const asking = asked.getStore();
      if (asking) {
        asking.endpoint = endpointOf(method, path);
        if (!(await asking.take(asking.endpoint))) {
          asking.refuse();
          throw new Error('the turn of this request cannot come in time');
        }
      }
      return await client.makeRequest(host, port, path, method, ...rest);
    },
  };
}

/** Stripe counts by named operation, whatever the ids: `GET /v1/customers/:id`. Names have no digit, ids do. */
function endpointOf(method: string, path: string): string {
  const [resource = ''] = path.split('?');
  const named = resource
    .split('/')
    .map((part, index) => (index < 2 || /^[a-z_]+$/.test(part) ? part : ':id'));
  return `${method} ${named.join('/')}`;
}

/**
 * What Stripe has had enough calls of, by its own word. Null where that is about one object, as also where another call
 * has locked it: whoever asks for others need not wait.
 */
function limitIn(error: unknown): 'all' | 'endpoint' | null {
  if (!(error instanceof Stripe.errors.StripeRateLimitError) || error.code === 'lock_timeout') return null;
  const reason = error.headers?.['stripe-rate-limited-reason'] ?? '';
  if (reason === 'resource-specific') return null;
  return reason.startsWith('endpoint-') ? 'endpoint' : 'all';
}

function backOffMs(error: unknown, tries: number): number | null {
  if (!(error instanceof Stripe.errors.StripeError) || tries >= MOST_TRIES) return null;
  if (error.statusCode !== 429 && !isPassing(error)) return null;
  const asked = Number(error.headers?.['retry-after']);
  return asked > 0 ? asked * 1000 : FIRST_BACK_OFF_MS * 2 ** (tries - 1);
}

const tooSlow = () =>
  new ProblemError('internal', 'Stripe did not answer in time. Please try again shortly.', {
    status: 504,
    retryAfterSeconds: 5,
  });

const notUnderstood = () =>
  new ProblemError('internal', 'Stripe sent an answer that is not its own. Please try again shortly.', {
    status: 502,
    retryAfterSeconds: 5,
  });

import Stripe from 'stripe';
import { createCountedClient } from './call.ts';
import { callerOf } from './caller.ts';
import { endingCalls } from './ending.ts';
import { type CallLimiter, UNLIMITED, type Urgency } from './limiter.ts';
import { moneyCalls } from './money.ts';
import { readingCalls } from './reading.ts';
import { type Remembered, sellingCalls } from './selling.ts';

export type StripeConnection = {
  secretKey: string;
  /** Origin of Stripe's API, such as `https://api.stripe.com`. */
  apiBase: string;
  /** The longest that one try may take. */
  timeoutMs?: number;
  /** What bounds our calls, where somebody counts them. */
  limiter?: CallLimiter;
};

const TIMEOUT_MS = 8_000;
/** Room for one try and its retry; a function with several calls sets a budget for all of them by `within`. */
const CALL_MS = 18_000;

export type StripeCalls = ReturnType<typeof callsTo>;

export type StripeGateway = StripeCalls & {
  /** The same calls, all of which together end within the time given; those that a person waits for go first. */
  within(ms: number, urgency?: Urgency): StripeCalls;
  /** The SDK itself, for setting up alone. */
  sdk: Stripe;
};

/**
 * The calls we make to Stripe, under our names, through the SDK and its pinned API version. Each ends within
 * its budget and throws a `ProblemError` that a caller may see.
 */
export function connectStripe({
  secretKey,
  apiBase,
  timeoutMs = TIMEOUT_MS,
  limiter = UNLIMITED,
}: StripeConnection): StripeGateway {
  const { hostname, port, protocol } = new URL(apiBase);
  const secure = protocol === 'https:';
  const stripe = new Stripe(secretKey, {
    host: hostname,
    port: port === '' ? (secure ? 443 : 80) : port,
    protocol: secure ? 'https' : 'http',
    timeout: timeoutMs,
    maxNetworkRetries: 1,
    telemetry: false,
    httpClient: createCountedClient(),
  });
  const remembered: Remembered = { prices: new Map(), portal: { readAtMs: 0 } };
  const urgency: Urgency = 'work';
  const terms = { timeoutMs, remembered, limiter, urgency };
  return {
    ...callsTo(stripe, { ...terms, endsAtMs: () => performance.now() + CALL_MS }),
    within(ms, whose = 'work') {
      const endsAtMs = performance.now() + ms;
      return callsTo(stripe, { ...terms, urgency: whose, endsAtMs: () => endsAtMs });
    },
    sdk: stripe,
  };
}

type Terms = {
  timeoutMs: number;
  remembered: Remembered;
  limiter: CallLimiter;
  urgency: Urgency;
  endsAtMs: () => number;
};

function callsTo(stripe: Stripe, { timeoutMs, remembered, endsAtMs, ...counted }: Terms) {
  const caller = callerOf(stripe, () => ({ ...counted, tryMs: timeoutMs, endsAtMs: endsAtMs() }));
  return {
    ...sellingCalls(caller, remembered),
    ...readingCalls(caller),
    ...moneyCalls(caller),
    ...endingCalls(caller),
  };
}

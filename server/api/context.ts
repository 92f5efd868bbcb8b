import type { Caller } from '../billing/caller.ts';
import type { BillingDeps } from '../billing/deps.ts';
import type { WebhookDeps } from '../webhooks/deps.ts';

/** The kinds of calls, each with a token bucket of its own for every account. */
export type RateBucket = 'global' | 'minting';

/** What there is to work with. Each function that a procedure calls takes its part of it. */
export type ApiDeps = BillingDeps & WebhookDeps;

/** One request, however it came in. */
export type Context = {
  readonly requestId: string;
  /** All values of the Idempotency-Key header. */
  idempotencyKeys(): readonly string[];
  readonly deps: ApiDeps;
  /** Looks the key up once for each request, however many calls it holds. Throws the kinds of 401. */
  authenticate(): Promise<Caller>;
  /** Takes a token from the account's bucket for each call; throws `rate-limited` when there is none. */
  admit(caller: Caller, bucket: RateBucket): void;
  /** Tells the caller that the answer is one already given. */
  markReplayed(): void;
};

import type { FastifyReply } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { RateBucket } from '../api/context.ts';
import type { Caller } from '../billing/caller.ts';
import { type BucketPolicy, type Buckets, createBuckets } from './token-bucket.ts';

/**
 * How much an account may call, by the tier it is entitled to now; tiers without a line of their own have that of
 * `free`.
 */
export type RateLimits = {
  readonly global: Readonly<Partial<Record<Caller['tier'], BucketPolicy>> & { free: BucketPolicy }>;
  readonly minting: BucketPolicy;
  /** Failed authentications from one address. */
  readonly failures: BucketPolicy;
};

/** Those of the whole Driftstack API, a line for each tier. */
const GLOBAL = {
  free: { capacity: 60, refillPerSecond: 1 },
  solo_manual: { capacity: 120, refillPerSecond: 2 },
  team_manual: { capacity: 360, refillPerSecond: 6 },
  agency_manual: { capacity: 1800, refillPerSecond: 30 },
  api_starter: { capacity: 240, refillPerSecond: 4 },
  api_builder: { capacity: 1800, refillPerSecond: 30 },
  api_scale: { capacity: 6000, refillPerSecond: 100 },
} satisfies Record<Caller['tier'], BucketPolicy>;

export const RATE_LIMITS: RateLimits = {
  global: GLOBAL,
  minting: { capacity: 30, refillPerSecond: 0.5 },
  failures: { capacity: 60, refillPerSecond: 1 },
};

export type Limiter = {
  /** Takes a token for a call and writes what is left into the headers; throws `rate-limited`. */
  admit(reply: FastifyReply, caller: Caller, bucket: RateBucket, nowMs: number): void;
  /** Counts a failed authentication; throws `rate-limited` when the address has had too many. */
  countFailure(address: string, nowMs: number): void;
};

/** Limits of this process; each process of a deployment counts by itself. */
export function createLimiter(limits: RateLimits): Limiter {
  const accounts = createBuckets();
  const mintings = createBuckets();
  const addresses = createBuckets();
  return {
    admit(reply, caller, bucket, nowMs) {
      const policy = limits.global[caller.tier] ?? limits.global.free;
      spend(reply, accounts, 'global', caller.accountId, policy, nowMs);
      if (bucket === 'minting') spend(reply, mintings, 'minting', caller.accountId, limits.minting, nowMs);
    },
    // Valid keys pass however many failures came from the same address: behind a proxy or a NAT it is shared
    // by strangers, and a key of 256 random bits is not found by trying.
    countFailure(address, nowMs) {
      const { allowed, retryAfterSeconds } = addresses.take(networkOf(address), limits.failures, nowMs);
      if (!allowed) throw tooMany('Too many calls with keys that do not work.', retryAfterSeconds);
    },
  };
}

function spend(
  reply: FastifyReply,
  buckets: Buckets,
  bucket: RateBucket,
  accountId: string,
  policy: BucketPolicy,
  nowMs: number,
): void {
  const taken = buckets.take(accountId, policy, nowMs);
  const { remaining, resetSeconds } = taken;
  reply.headers({
    'x-ratelimit-bucket': bucket,
    'x-ratelimit-limit': policy.capacity,
    'x-ratelimit-remaining': remaining,
    'x-ratelimit-reset': Math.ceil(nowMs / 1000) + resetSeconds,
    'ratelimit-limit': policy.capacity,
    'ratelimit-remaining': remaining,
    'ratelimit-reset': resetSeconds,
  });
  if (!taken.allowed) throw tooMany('This account has made too many calls.', taken.retryAfterSeconds);
}

function tooMany(what: string, retryAfterSeconds: number): ProblemError {
  const wait = retryAfterSeconds === 1 ? '1 second' : `${retryAfterSeconds} seconds`;
  return new ProblemError('rate-limited', `${what} Please wait ${wait}.`, { retryAfterSeconds });
}

/** One subscriber of an IPv6 network has a /64 to choose addresses from. */
function networkOf(address: string): string {
  return address.includes(':') ? address.split(':', 4).join(':') : address;
}

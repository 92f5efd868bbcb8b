export type BucketPolicy = { readonly capacity: number; readonly refillPerSecond: number };

/** Tokens at a moment; a bucket nobody has touched is full. */
export type Bucket = { readonly tokens: number; readonly atMs: number };

export type Taken = {
  readonly allowed: boolean;
  readonly bucket: Bucket;
  /** Whole tokens left. */
  readonly remaining: number;
  /** Until the bucket is full again. */
  readonly resetSeconds: number;
  /** Until there is a token again; 0 while there is one. */
  readonly retryAfterSeconds: number;
};

/** Takes one token at the moment `nowMs`, or none if there is no whole one. A clock set back refills nothing. */
export function takeToken(bucket: Bucket | undefined, policy: BucketPolicy, nowMs: number): Taken {
  const { capacity, refillPerSecond } = policy;
  const before = bucket
    ? Math.min(capacity, bucket.tokens + (Math.max(0, nowMs - bucket.atMs) / 1000) * refillPerSecond)
    : capacity;
  const allowed = before >= 1;
  const tokens = allowed ? before - 1 : before;
  return {
    allowed,
    bucket: { tokens, atMs: nowMs },
    remaining: Math.floor(tokens),
    resetSeconds: Math.ceil((capacity - tokens) / refillPerSecond),
    retryAfterSeconds: tokens >= 1 ? 0 : Math.ceil((1 - tokens) / refillPerSecond),
  };
}

/** Buckets by name, kept in this process alone: two processes admit up to twice as much. */
export type Buckets = { take(name: string, policy: BucketPolicy, nowMs: number): Taken };

/** Keeps at most `most` buckets; those untouched for longest, to the second, go first: they are full or nearly so. */
export function createBuckets(most = 50_000): Buckets {
  const buckets = new Map<string, Bucket>();
  return {
    take(name, policy, nowMs) {
      const before = buckets.get(name);
      const taken = takeToken(before, policy, nowMs);
      // A Map keeps the order of insertion, so this one moves to the end; once a second, because it costs.
      if (before && secondOf(before.atMs) !== secondOf(nowMs)) buckets.delete(name);
      buckets.set(name, taken.bucket);
      if (buckets.size > most) {
        const [oldest] = buckets.keys();
        if (oldest !== undefined) buckets.delete(oldest);
      }
      return taken;
    },
  };
}

const secondOf = (ms: number): number => Math.floor(ms / 1_000);

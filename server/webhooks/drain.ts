import { formatId } from '../../shared/ids.ts';
import { type Clock, realTime } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { type Attempted, type ClaimedDelivery, claimDeliveries, settle } from './attempts.ts';
import type { ClaimedEndpoint } from './claim.ts';
import { checkDestination, type DestinationPolicy } from './destination.ts';
import { eventBody } from './list-events.ts';
import { pauseEndpoint } from './pause.ts';
import type { Post, PostResult } from './post.ts';
import { judge, pauseReason } from './schedule.ts';
import { type SecretKeys, signatureHeaders, signsAsWell, unseal } from './secrets.ts';

export type DrainDeps = SecretKeys & {
  readonly db: Database;
  readonly clock: Clock;
  readonly destinations: DestinationPolicy;
  readonly post: Post;
  /** Hears of every try. */
  readonly onAttempt?: (outcome: Attempted['state']) => void;
};

/** What a drain and whoever started it tell each other. */
export type Turn = {
  readonly leaseId: string;
  readonly signal: AbortSignal;
  /** Whether somebody else waits for the place. */
  readonly wanted: () => boolean;
  /** Hears when a try begins, on the clock of `performance.now()`, and with null when it has ended. */
  readonly onTry: (since: number | null) => void;
};

/** How many deliveries one statement takes. */
const BATCH = 100;
/** For how long an endpoint may keep its place, where others wait for it and where nobody does. */
const SHORT_TURN_MS = 1_000;
const TURN_MS = 10_000;
/** What was sent and is not written down yet would be sent again after a crash: not much, and not for long. */
const UNSETTLED = 25;
/** An endpoint whose last try failed is sent several at a time: its order is lost, and tries may take long. */
const WIDTH_WHEN_FAILING = 5;

/**
 * Sends what is due for a leased endpoint, one after the other in order as long as it answers, until nothing
 * is due, its turn is over, its lease was lost or it is to be left alone.
 */
export async function drain(
  deps: DrainDeps,
  endpoint: ClaimedEndpoint,
  { leaseId, signal, wanted, onTry }: Turn,
): Promise<void> {
  const { db, clock } = deps;
  const startedAt = performance.now();
  const isOver = (): boolean => performance.now() - startedAt > (wanted() ? SHORT_TURN_MS : TURN_MS);
  const secrets = secretsOf(deps, endpoint, clock.now());
  let failures = endpoint.consecutiveFailures;
  let failingSince = endpoint.failingSinceMs === null ? null : new Date(endpoint.failingSinceMs);
  let { paceMs } = endpoint;
  let heldUntil: Date | null = null;
  let unsettled: Attempted[] = [];
  let tried = false;
  const write = async (): Promise<'ours' | 'lost'> => {
    if (unsettled.length === 0) return 'ours';
    const ours = await settle(db, { endpointId: endpoint.id, leaseId, heldUntil, paceMs }, unsettled);
    for (const { state } of unsettled) deps.onAttempt?.(state);
    unsettled = [];
    return ours ? 'ours' : 'lost';
  };

  for (;;) {
    const due = { endpointId: endpoint.id, leaseId, limit: BATCH, now: clock.now() };
    const claimed = await claimDeliveries(db, due);
    for (let next = 0; next < claimed.length; ) {
      // One try at least, so that every turn gets somewhere.
      if (signal.aborted || (tried && isOver())) return void (await write());
      const some = claimed.slice(next, next + (failures > 0 ? WIDTH_WHEN_FAILING : 1));
      next += some.length;
      onTry(performance.now());
      const results = await Promise.all(some.map((delivery) => attempt(deps, endpoint, delivery, secrets)));
      onTry(null);
      tried = true;
      let pause: { reason: NonNullable<ReturnType<typeof pauseReason>>; at: Date } | null = null;
      for (const { attempted, status, hold, tookMs } of results) {
        unsettled.push(attempted);
        heldUntil = hold ?? heldUntil;
        // One quick answer among slow ones makes nobody quick.
        paceMs = Math.max(tookMs, paceMs / 2);
        const failed = attempted.state !== 'delivered';
        failures = failed ? failures + 1 : 0;
        failingSince = failed ? (failingSince ?? attempted.at) : null;
        const reason = failed ? pauseReason(status, failingSince, attempted.at) : null;
        if (reason !== null) pause ??= { reason, at: attempted.at };
      }
      // All that was tried is written down first, also what was tried beside the one that pauses.
      if (pause !== null) {
        if ((await write()) === 'ours') await pauseEndpoint(db, endpoint, pause.reason, pause.at);
        return;
      }
      if (heldUntil !== null) return void (await write());
      if ((unsettled.length >= UNSETTLED || failures > 0) && (await write()) === 'lost') return;
    }
    if ((await write()) === 'lost' || claimed.length < BATCH) return;
  }
}

function secretsOf(keys: SecretKeys, endpoint: ClaimedEndpoint, now: Date): string[] {
  const { id, secret, prevSecret, graceEndsMs } = endpoint;
  const signing = prevSecret !== null && signsAsWell(graceEndsMs, now) ? [secret, prevSecret] : [secret];
  return signing.map((sealed) => unseal(keys, id, sealed));
}

type Tried = {
  attempted: Attempted;
  status: number | null;
  hold: Date | null;
  /** Everything included, also looking up the name. */
  tookMs: number;
};

async function attempt(
  { clock, destinations, post }: DrainDeps,
  { accountId, url }: ClaimedEndpoint,
  delivery: ClaimedDelivery,
  secrets: readonly string[],
): Promise<Tried> {
  const startedAt = performance.now();
  const { id, eventId, eventType, sequence } = delivery;
  const data: Record<string, unknown> = delivery.data === null ? {} : JSON.parse(delivery.data);
  const event = { id: eventId, accountId, type: eventType, emittedAt: new Date(delivery.emittedMs), data };
  const body = JSON.stringify(eventBody(event));
  const at = clock.now();
  const headers = {
    // The receiver judges by its own clock, which nobody has moved.
    ...signatureHeaders({ eventId: formatId('evt', eventId), eventType, body }, secrets, realTime(clock)),
    ...(sequence !== null && { 'x-driftstack-event-sequence': String(sequence) }),
  };
  const destination = await checkDestination(destinations, url);
  const result =
    'refused' in destination ? refused(destination.refused) : await post(destination, headers, body);
  const verdict = judge(result, delivery.attempts + 1, clock.now());
  return {
    tookMs: performance.now() - startedAt,
    status: result.status,
    hold: verdict.kind === 'delivered' ? null : verdict.holdUntil,
    attempted: {
      id,
      attempt: delivery.attempts + 1,
      state: verdict.kind,
      at,
      nextAttemptAt: verdict.kind === 'failed' ? verdict.nextAttemptAt : null,
      status: result.status,
      excerpt: result.excerpt,
      error:
        verdict.kind === 'delivered' ? null : (result.error ?? `The answer was ${result.status}, not 2xx.`),
      durationMs: result.durationMs,
    },
  };
}

function refused(why: string): PostResult {
  return { status: null, excerpt: null, retryAfter: null, error: `The URL ${why}.`, durationMs: 0 };
}

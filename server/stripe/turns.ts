import { ProblemError } from '../../shared/errors.ts';
import type { Database } from '../database/connection.ts';
import type { Cause } from './cause.ts';
import { createLanes, createPlaces, type Lanes, type Places } from './lanes.ts';
import type { Outcome } from './pass.ts';

/**
 * A pass over an account holds a connection for as long as it reads Stripe. Events and comparisons have half of
 * the pool for that, people who wait for an answer a fifth, and the rest is there for what needs no Stripe.
 */
type Turns = {
  lanes: Lanes<Outcome>;
  work: Places;
  people: Places;
  /** How many calls wait for a pass or share one, by account. */
  crowd: Map<string, number>;
};

/** Room for everything one pass asks of Stripe. */
const STRIPE_MS = 20_000;
/** How long an event waits for the pass before it, until its job gives its place to others and comes back. */
const EVENT_TURN_MS = 2_000;
/** A comparison has nobody to give its place to. */
const COMPARISON_TURN_MS = 30_000;
/**
 * So many calls may wait at a time, those that share a pass included: each has a place at the door as well, and
 * whoever asks for no Stripe needs the others of those.
 */
const MOST_WAITING = { ofAccount: 24, inAll: 32 };
/** A person is answered within this: waiting takes half of it at most, and the pass has what is left. */
const PERSON_MS = 24_000;

const turnsOf = new WeakMap<Database, Turns>();

function turns(db: Database): Turns {
  const known = turnsOf.get(db);
  if (known) return known;
  const { max } = db.pool.options;
  const fresh = {
    lanes: createLanes<Outcome>(),
    work: createPlaces(Math.ceil(max / 2)),
    people: createPlaces(Math.max(1, Math.floor(max / 5))),
    crowd: new Map(),
  };
  turnsOf.set(db, fresh);
  return fresh;
}

/**
 * Does `work`, a pass over an account that may read Stripe for as long as it is told, when it is its turn: one at a
 * time over each account, and of all in this process no more than the pool bears. Who waits has no connection.
 * Whoever asks for the same while a pass is under way shares the next one. Throws 503 when no turn comes in time.
 */
export async function inTurn(
  db: Database,
  accountId: string,
  cause: Cause & { dryRun?: boolean },
  work: (stripeMs: number) => Promise<Outcome>,
): Promise<Outcome> {
  const { lanes, work: unattended, people, crowd } = turns(db);
  const lane = { key: accountId, share: JSON.stringify(cause) };
  if (cause.kind === 'checkout_session') {
    const endsAtMs = performance.now() + PERSON_MS;
    const patienceMs = { turn: PERSON_MS / 3, place: PERSON_MS / 6 };
    return await among(crowd, accountId, () =>
      lanes({ ...lane, places: people, patienceMs }, () =>
        work(Math.min(STRIPE_MS, endsAtMs - performance.now())),
      ),
    );
  }
  const turn = cause.kind === 'events' ? EVENT_TURN_MS : COMPARISON_TURN_MS;
  // A place for it is there sooner or later, and the queue counts how long a job may take.
  const patienceMs = { turn, place: Number.POSITIVE_INFINITY };
  return await lanes({ ...lane, places: unattended, patienceMs }, () => work(STRIPE_MS));
}

async function among<T>(crowd: Turns['crowd'], accountId: string, wait: () => Promise<T>): Promise<T> {
  const ofAccount = crowd.get(accountId) ?? 0;
  const inAll = [...crowd.values()].reduce((sum, one) => sum + one, 0);
  if (ofAccount >= MOST_WAITING.ofAccount) {
    const detail = `${ofAccount} calls of this account wait for Stripe already. Please wait 3 seconds.`;
    throw new ProblemError('rate-limited', detail, { retryAfterSeconds: 3 });
  }
  if (inAll >= MOST_WAITING.inAll) {
    const detail = 'Too many calls wait for Stripe at present. Please try again in 3 seconds.';
    throw new ProblemError('internal', detail, { status: 503, retryAfterSeconds: 3 });
  }
  crowd.set(accountId, ofAccount + 1);
  try {
    return await wait();
  } finally {
    const left = (crowd.get(accountId) ?? 1) - 1;
    if (left > 0) crowd.set(accountId, left);
    else crowd.delete(accountId);
  }
}

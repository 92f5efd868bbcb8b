import { ProblemError } from '../../../shared/errors.ts';
import type { Database } from '../../database/connection.ts';
import { type AccountLease, underLease } from './account-lease.ts';
import type { Cause } from './cause.ts';
import type { Failures } from './pass.ts';

/** Room for everything one pass asks of Stripe. */
export const STRIPE_MS = 20_000;
/** How long whoever waits for no person waits for those before it. */
export const UNATTENDED_TURN_MS = 30_000;
/** A person is answered within this: waiting for those before takes a third of it at most, the pass has what is left. */
const PERSON_MS = 24_000;
/**
 * So many calls may wait at a time, those that share a pass included: each has a place at the door as well, and
 * whoever asks for no Stripe needs the others of those.
 */
const MOST_WAITING = { ofAccount: 24, inAll: 32 };

type Turns = {
  /** How many calls wait for a pass or share one, by account. */
  crowd: Map<string, number>;
  /** Passes that have yet to begin, by account and what they are for. */
  waiting: Map<string, Promise<Failures>>;
};

const turnsOf = new WeakMap<Database, Turns>();

function turns(db: Database): Turns {
  const known = turnsOf.get(db) ?? { crowd: new Map(), waiting: new Map() };
  turnsOf.set(db, known);
  return known;
}

/**
 * Does `work`, a pass over an account that may ask Stripe for as long as it is told, under the account's lease, which
 * is waited for without a connection. Whoever asks for the same in this process before it has begun shares it. Throws
 * 503 when no turn comes in time, and 429 or 503 at once where too many wait already.
 */
export async function inTurn(
  db: Database,
  accountId: string,
  cause: Cause,
  work: (lease: AccountLease, stripeMs: number) => Promise<Failures>,
): Promise<Failures> {
  if (cause.kind !== 'checkout_session')
    return await underLease(db, accountId, UNATTENDED_TURN_MS, (lease) => work(lease, STRIPE_MS));
  const { crowd, waiting } = turns(db);
  return await among(crowd, accountId, async () => {
    const name = JSON.stringify([accountId, cause]);
    const shared = waiting.get(name);
    if (shared) return await shared;
    const endsAtMs = performance.now() + PERSON_MS;
    const begun = () => waiting.delete(name);
    const mine = underLease(db, accountId, PERSON_MS / 3, async (lease) => {
      begun();
      return await work(lease, Math.min(STRIPE_MS, endsAtMs - performance.now()));
    }).finally(() => waiting.get(name) === mine && begun());
    waiting.set(name, mine);
    return await mine;
  });
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

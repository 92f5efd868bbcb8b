import { createHash } from 'node:crypto';
import type Stripe from 'stripe';
import { type CheckoutSessionResult, checkoutSessionResult } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { appendBy, type LogEnd } from '../audit/append.ts';
import { CheckoutAttempt } from '../database/entities/billing.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { isRefused, refusedParam } from '../stripe/api/refusal.ts';
import { synchronise } from '../stripe/sync/synchronise.ts';
import { createCustomer } from './customer.ts';
import { decide, isWanted } from './decide.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { type Claim, claimOf, claimOutcome, giveBack, keepAnswer, whileClaimed } from './idempotency.ts';
import { oneAtATime } from './one-at-a-time.ts';
import { letGoOfDeleted, tellingOperator } from './refused.ts';
import { priceOf, sessionParams } from './session-params.ts';
import { type Attempt, OPEN_STATES, SESSION_STARTED, takeTurn } from './turn.ts';

/** What is to be sold, and where the customer goes afterwards. */
export type Order = {
  kind: 'subscription' | 'trial_pack';
  lookupKey: string;
  successUrl: string;
  cancelUrl: string;
  /** What the caller named; an address that is not among it is the operator's. */
  given: object;
  /** The refusal of an account that may not buy this now. */
  refused: () => ProblemError;
  /** The refusal while a delayed payment for the same thing is under way. */
  pending: () => ProblemError;
};

/** One minting call on its way. */
type Minting = {
  deps: BillingDeps;
  stripe: StripeCalls;
  call: MintingCall;
  order: Order;
  paramsHash: Buffer;
  claimed: Claim;
};

/** The caller is answered within this, whatever Stripe does. */
const PATIENCE_MS = 22_000;
const MOST_ROUNDS = 8;

/**
 * Gives the account its one open Checkout session for this order: the open one when it is for the same thing,
 * else a new one after the old one was closed. No lock is held over a call to Stripe; the attempt's row
 * excludes others and its id is Stripe's idempotency key, so whoever comes next, here or in another process,
 * before or after a crash, goes on where the last one stopped.
 *
 * A fresh session costs one statement before Stripe (lock, key, refusal, attempt) and one after it.
 */
export async function mintSession(
  deps: BillingDeps,
  call: MintingCall,
  order: Order,
): Promise<Minted<CheckoutSessionResult>> {
  const { kind, lookupKey, successUrl, cancelUrl } = order;
  const paramsHash = hashOf([kind, lookupKey, successUrl, cancelUrl]);
  const claimed = claimOf(call, kind, [lookupKey, successUrl, cancelUrl]);
  const stripe = deps.gateway.within(PATIENCE_MS, 'person');
  return await whileClaimed(claimed, () =>
    oneAtATime(deps.db, call.accountId, PATIENCE_MS, () =>
      tellingOperator(deps, call.accountId, order.given, () =>
        rounds({ deps, stripe, call, order, paramsHash, claimed }),
      ),
    ),
  );
}

async function rounds(minting: Minting): Promise<Minted<CheckoutSessionResult>> {
  const { deps, stripe, call, order, paramsHash, claimed } = minting;
  let holdsKey = false;
  let refreshed = false;
  let priceIsFresh = false;
  try {
    for (let round = 1; round <= MOST_ROUNDS; round++) {
      const now = deps.clock.now();
      const price = await stripe.priceId(order.lookupKey);
      const sale = { ...order, price, paramsHash };
      const facts = await takeTurn(deps.db, call.accountId, sale, holdsKey ? null : claimed, now);
      const outcome = claimOutcome(facts.key);
      if (typeof outcome === 'object') return replayed(outcome);
      if (outcome === 'ours') holdsKey = true;
      else if (!facts.refused) continue;
      const step = decide(facts, { paramsHash, price, priceIsFresh }, now);
      switch (step.do) {
        case 'refuse':
          throw order.refused();
        case 'look_again':
          break;
        case 'ask_price':
          stripe.forgetPrices();
          priceIsFresh = true;
          break;
        case 'customer':
          await createCustomer(deps, stripe, call, facts.account);
          break;
        case 'create': {
          const session = await create(minting, step.attempt, step.begun);
          const at = { attempt: step.attempt, price, end: facts.account };
          if (session && (await opened(minting, at, session))) return answerOf(session);
          break;
        }
        case 'reuse': {
          const session = await stripe.readCheckoutSession(step.sessionId);
          if (session?.status === 'open') return await reused(minting, session);
          await settle(minting, step.attempt, session);
          break;
        }
        case 'close':
          if (await moveTo(minting, step.attempt, 'closing'))
            await settle(minting, step.attempt, await expire(stripe, step.sessionId));
          break;
        case 'forget':
          await moveTo(minting, step.attempt, 'expired');
          break;
        case 'refresh':
          if (refreshed) throw order.pending();
          refreshed = true;
          await settle(minting, step.attempt, await stripe.readCheckoutSession(step.sessionId));
          break;
      }
    }
    throw new ProblemError(
      'conflict',
      'Other calls keep changing what this account has open. Please try again.',
      { code: 'concurrent_change', retryAfterSeconds: 2 },
    );
  } catch (error) {
    if (holdsKey) await giveBack(deps.db, claimed);
    throw error;
  }
}

/**
 * The session of the attempt, new or from before; null when Stripe refuses it for good for a reason that is gone
 * once we begin anew: the customer was deleted, the operator has moved the lookup key to another price, or the
 * attempt, of an earlier version, names an end that Stripe's clock does not allow.
 */
async function create(minting: Minting, attempt: Attempt, begun: boolean) {
  const { deps, stripe, call, order } = minting;
  const params = sessionParams.parse(attempt.params);
  try {
    const session = await stripe.createCheckoutSession(params, attempt.id);
    // What Stripe repeats is the session as it was at its creation; it may have been paid for since.
    return begun ? session : await stripe.readCheckoutSession(session.id);
  } catch (error) {
    if (!isRefused(error)) throw error;
    // Nothing was created, and nothing would be by asking the same again.
    stripe.forgetPrices();
    await moveTo(minting, attempt, 'expired');
    const customer = { id: call.accountId, stripeCustomerId: params.customer };
    if (await letGoOfDeleted(deps, stripe, customer, error)) return null;
    const isGoneWithIt = refusedParam(error) === 'expires_at' && params.expires_at !== undefined;
    if (isGoneWithIt || (await stripe.priceId(order.lookupKey)) !== priceOf(params)) return null;
    throw error;
  }
}

type At = { attempt: Attempt; price: string; end: LogEnd };

/** False when the session is not what is wanted now, or others have moved the attempt on in the meantime. */
async function opened(
  { deps, call, order, paramsHash, claimed }: Minting,
  { attempt, price, end }: At,
  session: Stripe.Checkout.Session,
): Promise<boolean> {
  const wanted = session.status === 'open' && isWanted(attempt, { paramsHash, price });
  const entry = {
    accountId: call.accountId,
    action: 'checkout_session.started' as const,
    targetResourceId: session.id,
    payload: { kind: order.kind, lookup_key: order.lookupKey, request_id: call.requestId },
    actor: { type: 'customer' as const, accountId: call.accountId, keyId: call.keyId },
    dedupeKey: `session_started:${session.id}`,
    now: deps.clock.now(),
  };
  const [key, answer] = wanted ? [claimed?.key ?? null, answerOf(session).value] : [null, null];
  const values = [attempt.id, session.id, entry.now, key, answer];
  return (await appendBy(deps.db, SESSION_STARTED, entry, end, values)) && wanted;
}

async function reused({ deps, claimed }: Minting, session: Stripe.Checkout.Session) {
  const answer = answerOf(session);
  await keepAnswer(deps.db, claimed, answer.value);
  return answer;
}

/** Ends a session, or finds out what became of it when it has ended already. */
async function expire(stripe: StripeCalls, sessionId: string): Promise<Stripe.Checkout.Session | null> {
  try {
    return await stripe.expireCheckoutSession(sessionId);
  } catch (error) {
    if (!isRefused(error)) throw error;
    const session = await stripe.readCheckoutSession(sessionId);
    if (session?.status === 'open') throw error;
    return session;
  }
}

/** Carries over what became of a session: paid for while we closed it is an outcome like any other. */
async function settle(minting: Minting, attempt: Attempt, session: Stripe.Checkout.Session | null) {
  const { deps, call } = minting;
  if (session?.status === 'complete') {
    await synchronise(deps, call.accountId, { kind: 'checkout_session', sessionId: session.id });
  } else {
    await moveTo(minting, attempt, 'expired');
  }
}

/** False when it has ended, or is being paid for and cannot be closed any more. */
async function moveTo({ deps }: Minting, { id }: Attempt, state: 'closing' | 'expired'): Promise<boolean> {
  const from = state === 'closing' ? (['open', 'closing'] as const) : OPEN_STATES;
  const moved = await deps.db.orm.em
    .fork()
    .nativeUpdate(CheckoutAttempt, { id, state: { $in: [...from] } }, { state, updatedAt: deps.clock.now() });
  return moved > 0;
}

function answerOf({ id, url }: Stripe.Checkout.Session): Minted<CheckoutSessionResult> {
  if (url === null || url === undefined) throw new Error(`The open Checkout session ${id} has no URL`);
  return { value: { checkout_url: url, checkout_session_id: id }, replayed: false };
}

const replayed = (kept: object): Minted<CheckoutSessionResult> => ({
  value: checkoutSessionResult.parse(kept),
  replayed: true,
});

const hashOf = (value: unknown): Buffer => createHash('sha256').update(JSON.stringify(value)).digest();

import { createHash } from 'node:crypto';
import type Stripe from 'stripe';
import type { CheckoutSessionResult } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { append } from '../audit/append.ts';
import { CheckoutAttempt } from '../database/entities/billing.ts';
import { lockAccount } from '../database/locks.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { isRefused, refusedParam } from '../stripe/api/refusal.ts';
import { synchronise } from '../stripe/sync/synchronise.ts';
import { createCustomer } from './customer.ts';
import { isWanted } from './decide.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import { answered, claimOf, giveBack, whileClaimed } from './idempotency.ts';
import { oneAtATime } from './one-at-a-time.ts';
import { letGoOfDeleted, tellingOperator } from './refused.ts';
import { priceOf, sessionParams } from './session-params.ts';
import { type Minting, OPEN_STATES, type Order, type Turn, takeTurn } from './turn.ts';

/** The caller is answered within this, whatever Stripe does. */
const PATIENCE_MS = 22_000;
const MOST_ROUNDS = 5;

/**
 * Gives the account its one open Checkout session for this order: the open one when it is for the same thing,
 * else a new one after the old one was closed. No lock is held over a call to Stripe; the attempt's row
 * excludes others and its id is Stripe's idempotency key, so whoever comes next, here or in another process,
 * before or after a crash, goes on where the last one stopped.
 *
 * A fresh session costs one transaction before Stripe (lock, key, refusal, attempt, insert) and one after it.
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
  const { deps, stripe, call, order, claimed } = minting;
  let holdsKey = false;
  let refreshed = false;
  let priceIsFresh = false;
  try {
    for (let round = 1; round <= MOST_ROUNDS; round++) {
      const price = await stripe.priceId(order.lookupKey);
      const turn = await takeTurn(minting, { price, priceIsFresh }, holdsKey);
      if (turn.do === 'replay') return { value: turn.value, replayed: true };
      holdsKey = true;
      switch (turn.do) {
        case 'ask_price':
          stripe.forgetPrices();
          priceIsFresh = true;
          break;
        case 'customer':
          await createCustomer(deps, stripe, call, turn.account);
          break;
        case 'create': {
          const session = await create(minting, turn);
          if (session && (await opened(minting, turn.attempt, price, session))) return answerOf(session);
          break;
        }
        case 'reuse': {
          const session = await stripe.readCheckoutSession(turn.sessionId);
          if (session?.status === 'open') return await reused(minting, session);
          await settle(minting, turn.attempt, session);
          break;
        }
        case 'close':
          await settle(minting, turn.attempt, await expire(stripe, turn.sessionId));
          break;
        case 'forget':
          await moveTo(minting, turn.attempt, 'expired');
          break;
        case 'refresh':
          if (refreshed) throw order.pending();
          refreshed = true;
          await settle(minting, turn.attempt, await stripe.readCheckoutSession(turn.sessionId));
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
async function create(minting: Minting, { attempt, begun }: Extract<Turn, { do: 'create' }>) {
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

/** The transaction after Stripe; false when others have moved the attempt on in the meantime. */
async function opened(
  { deps, call, order, paramsHash, claimed }: Minting,
  attempt: CheckoutAttempt,
  price: string,
  session: Stripe.Checkout.Session,
): Promise<boolean> {
  const now = deps.clock.now();
  const wanted = session.status === 'open' && isWanted(attempt, { paramsHash, price });
  return await deps.db.transactionOn(call.accountId, async (tx) => {
    // Before the attempt, as everywhere: a pass that lets go of the customer has the account and wants the attempt.
    await lockAccount(tx, call.accountId);
    const moved = await tx.nativeUpdate(
      CheckoutAttempt,
      { id: attempt.id, state: 'creating' },
      { state: 'open', stripeSessionId: session.id, updatedAt: now },
    );
    if (moved === 0) return false;
    await append(tx, {
      accountId: call.accountId,
      action: 'checkout_session.started',
      targetResourceId: session.id,
      payload: { kind: order.kind, lookup_key: order.lookupKey, request_id: call.requestId },
      actor: { type: 'customer', accountId: call.accountId, keyId: call.keyId },
      dedupeKey: `session_started:${session.id}`,
      now,
    });
    if (wanted) await answered(tx, claimed, answerOf(session).value);
    return wanted;
  });
}

async function reused({ deps, claimed }: Minting, session: Stripe.Checkout.Session) {
  const answer = answerOf(session);
  if (claimed) await deps.db.transaction((tx) => answered(tx, claimed, answer.value));
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
async function settle(minting: Minting, attempt: CheckoutAttempt, session: Stripe.Checkout.Session | null) {
  const { deps, call } = minting;
  if (session?.status === 'complete') {
    await synchronise(deps, call.accountId, { kind: 'checkout_session', sessionId: session.id });
  } else {
    await moveTo(minting, attempt, 'expired');
  }
}

async function moveTo({ deps }: Minting, { id }: CheckoutAttempt, state: 'expired'): Promise<void> {
  await deps.db.orm.em
    .fork()
    .nativeUpdate(
      CheckoutAttempt,
      { id, state: { $in: [...OPEN_STATES] } },
      { state, updatedAt: deps.clock.now() },
    );
}

function answerOf({ id, url }: Stripe.Checkout.Session): Minted<CheckoutSessionResult> {
  if (url === null || url === undefined) throw new Error(`The open Checkout session ${id} has no URL`);
  return { value: { checkout_url: url, checkout_session_id: id }, replayed: false };
}

const hashOf = (value: unknown): Buffer => createHash('sha256').update(JSON.stringify(value)).digest();

import { type CheckoutSessionResult, checkoutSessionResult } from '../../shared/billing.ts';
import type { ProblemError } from '../../shared/errors.ts';
import type { Tx } from '../database/connection.ts';
import type { Account } from '../database/entities/account.ts';
import { CheckoutAttempt } from '../database/entities/billing.ts';
import { lockAccount } from '../database/locks.ts';
import { uuidv7 } from '../database/uuid.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { decide, type Step, type Wanted } from './decide.ts';
import type { BillingDeps, MintingCall } from './deps.ts';
import { type Claim, claim } from './idempotency.ts';
import { buildSessionParams } from './session-params.ts';

/** What is to be sold, and where the customer goes afterwards. */
export type Order = {
  kind: 'subscription' | 'trial_pack';
  lookupKey: string;
  successUrl: string;
  cancelUrl: string;
  /** What the caller named; an address that is not among it is the operator's. */
  given: object;
  /** Throws 409 when the account may not buy this now. The account's row is locked. */
  refuse: (tx: Tx) => Promise<void>;
  /** The refusal while a delayed payment for the same thing is under way. */
  pending: () => ProblemError;
};

/** One minting call on its way. */
export type Minting = {
  deps: BillingDeps;
  stripe: StripeCalls;
  call: MintingCall;
  order: Order;
  paramsHash: Buffer;
  claimed: Claim;
};

/** The states in which an attempt keeps others out; the partial unique index names the same. */
export const OPEN_STATES = ['creating', 'open', 'closing', 'awaiting_payment'] as const;
/** How long Stripe lets a session live that names no end. */
const SESSION_LIFE_MS = 24 * 3_600_000;

/** What a call does next. */
export type Turn =
  | Exclude<Step, { do: 'begin' | 'create' }>
  /** `begun`: by this call, so that its session cannot be older than it. */
  | { do: 'create'; attempt: CheckoutAttempt; begun: boolean }
  | { do: 'replay'; value: CheckoutSessionResult }
  | { do: 'customer'; account: Account };

/** The transaction before Stripe: claims the key, refuses, and decides what to do with what is open. */
export async function takeTurn(
  minting: Minting,
  { price, priceIsFresh }: Omit<Wanted, 'paramsHash'>,
  holdsKey: boolean,
): Promise<Turn> {
  const { deps, call, order, paramsHash, claimed } = minting;
  const { accountId } = call;
  const now = deps.clock.now();
  return await deps.db.transactionOn(accountId, async (tx) => {
    const account = await lockAccount(tx, accountId);
    if (!account) throw new Error(`Account ${accountId} is not in the database`);
    const earlier = holdsKey ? null : await claim(tx, claimed, now);
    if (earlier) return { do: 'replay', value: checkoutSessionResult.parse(earlier) };
    await order.refuse(tx);
    if (!account.stripeCustomerId) return { do: 'customer', account };
    const open = await tx.findOne(CheckoutAttempt, {
      accountId,
      kind: order.kind,
      state: { $in: [...OPEN_STATES] },
    });
    const step = decide(open, { paramsHash, price, priceIsFresh }, now);
    if (step.do === 'close') {
      await tx.nativeUpdate(CheckoutAttempt, step.attempt.id, { state: 'closing', updatedAt: now });
    }
    if (step.do === 'create') return { ...step, begun: false };
    if (step.do !== 'begin') return step;
    const attempt = begin(order, { accountId, customer: account.stripeCustomerId, price, paramsHash, now });
    await tx.insert(CheckoutAttempt, attempt);
    return { do: 'create', attempt, begun: true };
  });
}

type Beginning = { accountId: string; customer: string; price: string; paramsHash: Buffer; now: Date };

function begin(
  { kind, successUrl, cancelUrl }: Order,
  { accountId, customer, price, paramsHash, now }: Beginning,
): CheckoutAttempt {
  const id = uuidv7(now);
  const expiresAt = new Date(now.getTime() + SESSION_LIFE_MS);
  const order = { kind, accountId, attemptId: id, customer, price, successUrl, cancelUrl };
  const params = buildSessionParams(order);
  const state = 'creating' as const;
  const times = { expiresAt, createdAt: now, updatedAt: now };
  return { id, accountId, kind, state, params, paramsHash, stripeSessionId: null, ...times };
}

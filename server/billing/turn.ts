import { SUBSCRIPTION_STATUSES } from '../../shared/billing.ts';
import { appending, LOG_END, type LogEnd } from '../audit/append.ts';
import type { Database } from '../database/connection.ts';
import type { Account } from '../database/entities/account.ts';
import type { CheckoutAttempt } from '../database/entities/billing.ts';
import type { Statement } from '../database/statement.ts';
import { uuidv7 } from '../database/uuid.ts';
import { isLive } from '../stripe/sync/subscription/project.ts';
import { CLAIMED, CLAIMING, type Claim, type Claimed, claimValues, keeping } from './idempotency.ts';
import { buildSessionParams } from './session-params.ts';

/** What is to be sold, and where the customer goes afterwards. */
export type Sale = {
  kind: 'subscription' | 'trial_pack';
  successUrl: string;
  cancelUrl: string;
  price: string;
  paramsHash: Buffer;
};

/** What is known of an attempt that keeps others out. */
export type Attempt = Pick<
  CheckoutAttempt,
  'id' | 'state' | 'params' | 'paramsHash' | 'expiresAt' | 'stripeSessionId'
>;

/** What an account has when a call has its turn. */
export type Facts = {
  readonly account: AccountRow;
  /** Whether the account may not buy this now. */
  readonly refused: boolean;
  readonly key: Claimed;
  /** The attempt that was open before, if there was one. */
  readonly open: Attempt | null;
  /** The attempt that this call has begun, because none was open. */
  readonly begun: Attempt | null;
};

/** The states in which an attempt keeps others out; the partial unique index names the same. */
export const OPEN_STATES = ['creating', 'open', 'closing', 'awaiting_payment'] as const;
/** How long Stripe lets a session live that names no end. */
const SESSION_LIFE_MS = 24 * 3_600_000;

const listed = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(', ');
const OPEN = listed(OPEN_STATES);
const LIVE = listed(SUBSCRIPTION_STATUSES.filter(isLive));

/**
 * All that a call does before it asks Stripe: claims the key, reads what the account has, and begins an attempt where
 * none is open and nothing refuses it. The account's row is locked first, as everywhere; what is read may all the same
 * be as of the moment before, while somebody else had it. That does no harm: the claim and the attempt are decided by
 * their unique indexes as of now, and what somebody else has written meanwhile could as well have been written after
 * this, while Stripe is asked, which the call has to reckon with in any case.
 */
export const TAKE_TURN: Statement = {
  name: 'take-turn',
  text: `with mine as (
    select id, email, stripe_customer_id, stripe_customer_generation, audit_position, audit_hash
      from account where id = $1 for no key update),
  refusal as (
    select case $6 when 'trial_pack' then exists (select from trial_pack where account_id = $1)
      else exists (select from subscription where account_id = $1 and status in (${LIVE})) end as refused),
  claimant as (select id from mine, refusal where not refused),
  ${CLAIMING},
  open as (
    select id, state, params, params_hash, expires_at, stripe_session_id
      from checkout_attempt where account_id = $1 and kind = $6 and state in (${OPEN})),
  begun as (
    insert into checkout_attempt
      (id, account_id, kind, state, params, params_hash, expires_at, created_at, updated_at)
    select $7::uuid, id, $6, 'creating', $8::jsonb || jsonb_build_object('customer', stripe_customer_id),
           $9::bytea, $10::timestamptz, $5, $5
      from mine
     where id in (select id from claimant) and stripe_customer_id is not null
       and ($2 is null or exists (select from claimed)) and not exists (select from open)
    on conflict (account_id, kind) where state in (${OPEN}) do nothing
    returning id)
  select m.email, m.stripe_customer_id as "stripeCustomerId",
         m.stripe_customer_generation as "stripeCustomerGeneration",
         ${LOG_END},
         r.refused, ${CLAIMED}, exists (select from begun) as begun, o.id as "openId", o.state, o.params,
         o.params_hash as "paramsHash", (extract(epoch from o.expires_at) * 1000)::float8 as "expiresMs",
         o.stripe_session_id as "stripeSessionId"
    from mine m cross join refusal r left join open o on true`,
};

type AccountRow = Pick<Account, 'email' | 'stripeCustomerGeneration'> & {
  readonly stripeCustomerId: string | null;
} & LogEnd;
type OpenRow = Omit<Attempt, 'id' | 'expiresAt'> & { openId: string; expiresMs: number };
type Row = AccountRow & Claimed & { refused: boolean; begun: boolean } & (OpenRow | { openId: null });

/** Has its turn on the account; `claim` is null also for a key that is held already. */
export async function takeTurn(
  db: Pick<Database, 'statementOn'>,
  accountId: string,
  { kind, successUrl, cancelUrl, price, paramsHash }: Sale,
  claim: Claim,
  now: Date,
): Promise<Facts> {
  const id = uuidv7(now);
  const params = buildSessionParams({ kind, accountId, attemptId: id, price, successUrl, cancelUrl });
  const expiresAt = new Date(now.getTime() + SESSION_LIFE_MS);
  const [row] = await db.statementOn<Row>(accountId, TAKE_TURN, [
    ...claimValues(accountId, claim, now),
    ...[kind, id, params, paramsHash, expiresAt],
  ]);
  if (!row) throw new Error(`Account ${accountId} is not in the database`);
  const { stripeCustomerId: customer } = row;
  return {
    account: row,
    refused: row.refused,
    key: row,
    open: row.openId === null ? null : { ...row, id: row.openId, expiresAt: new Date(row.expiresMs) },
    begun: row.begun
      ? {
          id,
          state: 'creating',
          params: { ...params, customer },
          paramsHash,
          expiresAt,
          stripeSessionId: null,
        }
      : null,
  };
}

/** All that is left to do after Stripe: marks the attempt as open where nobody has moved it on, and keeps the answer. */
export const SESSION_STARTED = appending('session-started', {
  ours: `attempt as (
    select c.id from checkout_attempt c, mine where c.id = $6 and c.state = 'creating' for no key update of c),
  ours as (select mine.id, audit_position from mine, attempt)`,
  effects: [
    `opened as (
    update checkout_attempt c set state = 'open', stripe_session_id = $7, updated_at = $8 from stands where c.id = $6)`,
    keeping(9, 10),
  ],
});

import { createHash, randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import type { PortalSessionInput, PortalSessionResult } from '../../shared/billing.ts';
import { ProblemError } from '../../shared/errors.ts';
import { appendBy, appending, LOG_END, type LogEnd } from '../audit/append.ts';
import type { Statement } from '../database/statement.ts';
import type { StripeCalls } from '../stripe/api/gateway.ts';
import { isRefused } from '../stripe/api/refusal.ts';
import type { BillingDeps, Minted, MintingCall } from './deps.ts';
import {
  CLAIMED,
  CLAIMING,
  type Claim,
  type Claimed,
  claimOf,
  claimValues,
  giveBack,
  keeping,
  untilClaimed,
  whileClaimed,
} from './idempotency.ts';
import { letGoOfDeleted, tellingOperator } from './refused.ts';

const PATIENCE_MS = 22_000;

/**
 * Opens the customer portal. Its URL is single-use and never stored: a call repeated under its Idempotency-Key
 * is answered by Stripe, under a key derived from it. Throws 409 `no_billing_customer` before any purchase.
 */
export async function startPortal(
  deps: BillingDeps,
  call: MintingCall,
  input: PortalSessionInput,
): Promise<Minted<PortalSessionResult>> {
  const { db, clock, gateway, redirects, defaults } = deps;
  const { accountId, keyId, requestId } = call;
  const given = input.return_url;
  const returnUrl = given === undefined ? defaults.portalReturnUrl : redirects.check('return_url', given);
  const claimed = claimOf(call, 'portal', [returnUrl]);
  const stripe = gateway.within(PATIENCE_MS, 'person');

  return await whileClaimed(claimed, async () => {
    const { customer, end, replayed } = await begin(deps, accountId, claimed);
    try {
      const session = await tellingOperator(deps, accountId, input, () =>
        open(deps, stripe, call, { customer, ...(returnUrl !== null && { return_url: returnUrl }) }),
      );
      const entry = {
        accountId,
        action: 'portal_session.started' as const,
        targetResourceId: session.id,
        payload: { request_id: requestId },
        actor: { type: 'customer' as const, accountId, keyId },
        dedupeKey: `portal_session:${session.id}`,
        now: clock.now(),
      };
      await appendBy(db, PORTAL_STARTED, entry, end, [claimed?.key ?? null, {}]);
      return { value: { portal_url: session.url }, replayed };
    } catch (error) {
      await giveBack(db, claimed);
      throw error;
    }
  });
}

/** Claims the key where the account has a customer. It locks nothing else. */
export const BEGIN_PORTAL: Statement = {
  name: 'begin-portal',
  text: `with mine as (
    select id, stripe_customer_id, audit_position, audit_hash from account where id = $1),
  claimant as (select id from mine where stripe_customer_id is not null),
  ${CLAIMING}
  select stripe_customer_id as customer, ${LOG_END}, ${CLAIMED} from mine`,
};

async function begin({ db, clock }: BillingDeps, accountId: string, claim: Claim) {
  const values = claimValues(accountId, claim, clock.now());
  const { row, earlier } = await untilClaimed(async () => {
    const { rows } = await db.pool.query<Row>({ ...BEGIN_PORTAL, values });
    if (!rows[0]) throw new Error(`Account ${accountId} is not in the database`);
    if (rows[0].customer === null && rows[0].found === null) throw noCustomer();
    return rows[0];
  });
  if (row.customer === null) throw noCustomer();
  return { customer: row.customer, end: row, replayed: earlier !== null };
}

type Row = Claimed & LogEnd & { customer: string | null };

const PORTAL_STARTED = appending('portal-started', {
  ours: 'ours as (select id, audit_position from mine)',
  effects: [keeping(6, 7)],
});

type Wanted = { customer: string; return_url?: string };

/** Asks again when Stripe refuses the configuration that was remembered, and the operator has another by now. */
async function open(
  deps: BillingDeps,
  stripe: StripeCalls,
  { accountId, idempotencyKey }: MintingCall,
  wanted: Wanted,
): Promise<Stripe.BillingPortal.Session> {
  const create = (configuration: string | null) => {
    const params = { ...wanted, ...(configuration !== null && { configuration }) };
    // What we send may change between two calls under one key of the caller's, and Stripe compares it.
    const key = idempotencyKey === null ? randomUUID() : hashOf([accountId, idempotencyKey, params]);
    return stripe.createPortalSession(params, `portal:${key}`);
  };
  const remembered = await stripe.portalConfiguration();
  try {
    return await create(remembered);
  } catch (error) {
    const account = { id: accountId, stripeCustomerId: wanted.customer };
    if (await letGoOfDeleted(deps, stripe, account, error)) throw noCustomer();
    if (!isRefused(error)) throw error;
    stripe.forgetPortal();
    const configuration = await stripe.portalConfiguration();
    if (configuration === remembered) throw error;
    return await create(configuration);
  }
}

const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

const noCustomer = () =>
  new ProblemError('conflict', 'This account has bought nothing yet that could be managed in the portal.', {
    code: 'no_billing_customer',
  });

import type { Tx } from '../database/connection.ts';
import type { TrialPack } from '../database/entities/billing.ts';
import { lockTrialPack } from '../database/locks.ts';
import { scheduleExpiry } from './expire.ts';
import { announce, grant } from './grant.ts';
import { spentSeconds } from './ledger.ts';
import { isRefundedWhole, projectTrialPack, type TrialPackFacts } from './project.ts';
import { type Cause, recordChange } from './record.ts';
import { settle } from './rules.ts';

export type TrialPackOutcome =
  | 'unpaid'
  /** This purchase has just become the account's pack, in whatever state the facts leave it. */
  | 'granted'
  | 'changed'
  | 'unchanged'
  /** The account already had its one pack. The caller gives this money back. */
  | 'second_purchase'
  | 'second_purchase_refunded';

/**
 * Brings the trial pack of an account to what Stripe holds about one purchase: row, ledger, audit log,
 * mails and the job that ends it, each once, however often and in whatever order it is called. The caller
 * holds the lock on the account's row.
 */
export async function applyTrialPack(
  tx: Tx,
  { accountId, facts, cause }: { accountId: string; facts: TrialPackFacts; cause: Cause },
  now: Date,
): Promise<TrialPackOutcome> {
  const projection = projectTrialPack(facts);
  if (projection.standing === 'unpaid') return 'unpaid';
  // Reports of use lock the pack alone, so that they do not wait for whoever reads from Stripe.
  const held = await lockTrialPack(tx, accountId);
  if (held !== null && !isSame(held, facts)) {
    return isRefundedWhole(facts) ? 'second_purchase_refunded' : 'second_purchase';
  }
  const pack = held ?? (await grant(tx, { accountId, facts, cause }, now));
  const { expiresAt, state: before } = pack;
  const spent = await spentSeconds(tx, accountId);
  const after = settle(projection, { spentSeconds: spent, expiresAt }, now);
  const known = { ...facts, spentSeconds: spent };
  const change = await recordChange(tx, { pack, after, facts: known, cause }, now);
  if (held === null && change === null) await announce(tx, pack, facts, now);
  // A revoked pack has no job waiting for its end, and one that comes back needs it again.
  if (held === null || (before === 'revoked' && after.state !== 'revoked'))
    await scheduleExpiry(tx, pack, now);
  if (held === null) return 'granted';
  return change === null ? 'unchanged' : 'changed';
}

/** Stripe tells of one purchase by its session, its invoice or its payment. */
function isSame(held: TrialPack, { sessionId, paymentIntentId }: TrialPackFacts): boolean {
  return held.stripeSessionId === sessionId || held.paymentIntent === paymentIntentId;
}

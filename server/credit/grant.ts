import { toWireTime } from '../../shared/time.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { TrialPack } from '../database/entities/billing.ts';
import { uuidv7 } from '../database/uuid.ts';
import { queueEmail } from '../notify/outbox.ts';
import { purchaseNews } from '../webhooks/news.ts';
import { recordEvent } from '../webhooks/record-event.ts';
import { enter } from './ledger.ts';
import { GRANTED_SECONDS, type TrialPackFacts } from './project.ts';
import type { Cause } from './record.ts';
import { creditCentsRemaining, expiryOf } from './rules.ts';

/**
 * Gives an account its one trial pack: row, ledger entry and audit entry. The mail is sent by `announce`,
 * because a pack can be taken back in the same transaction. Throws if the account has one, by unique index.
 */
export async function grant(
  tx: Tx,
  { accountId, facts, cause }: { accountId: string; facts: TrialPackFacts; cause: Cause },
  now: Date,
): Promise<TrialPack> {
  const id = uuidv7(now);
  const expiresAt = expiryOf(facts.paidAt);
  await tx.insert(TrialPack, {
    id,
    accountId,
    stripeSessionId: facts.sessionId,
    // Where nothing was charged there is no payment intent, and the session is the one proof.
    paymentIntent: facts.paymentIntentId ?? facts.sessionId,
    state: 'active',
    redeemedAt: facts.paidAt,
    expiresAt,
    grantedSeconds: GRANTED_SECONDS,
    remainingSeconds: 0,
    version: 1,
  });
  await enter(tx, { accountId, kind: 'grant', seconds: GRANTED_SECONDS, reportKey: `${id}:1` }, now);
  await append(tx, {
    accountId,
    action: 'trial_pack.redeemed',
    targetResourceId: facts.sessionId,
    payload: {
      credit_cents: creditCentsRemaining(GRANTED_SECONDS),
      amount_cents: facts.amountCents,
      expires_at: toWireTime(expiresAt),
      ...cause,
    },
    actor: { type: 'system' },
    dedupeKey: `trial_pack:${id}:1`,
    now,
  });
  const pack = await tx.findOneOrFail(TrialPack, { id }, { refresh: true });
  const news = purchaseNews(pack, facts.paidAt);
  await recordEvent(tx, { accountId, news, dedupeKey: `${news.type}:${id}`, now });
  return pack;
}

/** Tells the customer that the credit can be spent. */
export async function announce(tx: Tx, pack: TrialPack, facts: TrialPackFacts, now: Date): Promise<void> {
  const { accountId, expiresAt } = pack;
  const { email: to } = await tx.findOneOrFail(Account, accountId);
  const { amountCents, currency } = facts;
  const creditCents = creditCentsRemaining(pack.remainingSeconds);
  await queueEmail(
    tx,
    {
      accountId,
      to,
      template: 'trial_pack_ready',
      data: { creditCents, expiresAt, amountCents, currency },
      naturalKey: `trial_pack:${pack.id}:1`,
    },
    now,
  );
}

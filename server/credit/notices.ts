import { toWireTime } from '../../shared/time.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { TrialPack } from '../database/entities/billing.ts';
import { queueEmail } from '../notify/outbox.ts';
import type { LockedPack } from './locked-pack.ts';
import { creditCentsRemaining } from './rules.ts';
import { isNearlyUsed } from './spending.ts';

/**
 * Writes down and mails that credit is nearly used or used up, each once in the life of a pack. `reportKey` names
 * the entry that led to it. The caller holds the locks on the rows of the account and the pack.
 */
export async function noteSpending(
  tx: Tx,
  pack: LockedPack,
  { balanceSeconds, reportKey }: { balanceSeconds: number; reportKey: string },
): Promise<void> {
  if (balanceSeconds === 0) {
    await note(tx, pack, 'used_up', { credit_entry: reportKey });
  } else if (!pack.isNearlyUsedTold && isNearlyUsed(balanceSeconds, pack.grantedSeconds)) {
    await tx.nativeUpdate(TrialPack, { id: pack.id }, { nearlyUsedAt: pack.at });
    await note(tx, pack, 'nearly_used', { credit_entry: reportKey }, creditCentsRemaining(balanceSeconds));
  }
}

/** The same for credit that ends in a day; false if that was noted before. */
export async function noteExpiring(
  tx: Tx,
  pack: Pick<TrialPack, 'id' | 'accountId' | 'stripeSessionId' | 'expiresAt'>,
  creditCents: number,
  now: Date,
): Promise<boolean> {
  return await note(tx, { ...pack, at: now }, 'expiring', {}, creditCents);
}

type Noted = Pick<LockedPack, 'id' | 'accountId' | 'stripeSessionId' | 'expiresAt' | 'at'>;

async function note(
  tx: Tx,
  { id, accountId, stripeSessionId, expiresAt, at }: Noted,
  what: 'nearly_used' | 'used_up' | 'expiring',
  cause: Readonly<Record<string, string>>,
  creditCents = 0,
): Promise<boolean> {
  const key = `trial_pack:${id}:${what}`;
  const { email: to } = await tx.findOneOrFail(Account, accountId);
  const isNew = await append(tx, {
    accountId,
    action: `trial_pack.credit_${what}`,
    targetResourceId: stripeSessionId,
    payload: { credit_cents_remaining: creditCents, expires_at: toWireTime(expiresAt), ...cause },
    actor: { type: 'system' },
    dedupeKey: key,
    now: at,
  });
  if (!isNew) return false;
  const mail =
    what === 'used_up'
      ? ({ template: 'credit_used_up', data: {} } as const)
      : ({ template: `credit_${what}`, data: { creditCents, expiresAt } } as const);
  await queueEmail(tx, { accountId, to, naturalKey: key, ...mail }, at);
  return true;
}

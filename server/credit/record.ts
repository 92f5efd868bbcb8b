import type { AuditAction } from '../../shared/audit.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { TrialPack } from '../database/entities/billing.ts';
import { type Mail, queueEmail } from '../notify/outbox.ts';
import { expiryNews } from '../webhooks/news.ts';
import { recordEvent } from '../webhooks/record-event.ts';
import { enter } from './ledger.ts';
import type { TrialPackFacts } from './project.ts';
import { changeOf, creditCentsRemaining, type PackChange, type PackStanding } from './rules.ts';

/** What led to a change; it stands in the payload of the audit entry, such as `{ stripe_event_id }`. */
export type Cause = Readonly<Record<string, string>>;

export type Step = {
  pack: TrialPack;
  after: PackStanding;
  /** Null where only time has passed. */
  facts: (TrialPackFacts & { spentSeconds: number }) | null;
  cause: Cause;
};

/**
 * Writes the step of a pack to another standing: row, ledger entry, audit entry and mail. Null, and nothing
 * written, if it already stands there. The caller holds the locks on the rows of the account and the pack.
 */
export async function recordChange(tx: Tx, step: Step, now: Date): Promise<PackChange | null> {
  const { pack, after } = step;
  const change = changeOf(pack, after);
  if (change === null) return null;
  const version = pack.version + 1;
  const seconds = after.remainingSeconds - pack.remainingSeconds;
  await tx.nativeUpdate(TrialPack, { id: pack.id }, { state: after.state, version });
  if (seconds !== 0) {
    const kind = change === 'expired' ? 'expire' : seconds < 0 ? 'revoke' : 'reinstate';
    await enter(tx, { accountId: pack.accountId, kind, seconds, reportKey: `${pack.id}:${version}` }, now);
  }
  await append(tx, {
    accountId: pack.accountId,
    action: ACTIONS[change],
    targetResourceId: pack.stripeSessionId,
    payload: {
      credit_cents_before: creditCentsRemaining(pack.remainingSeconds),
      credit_cents_remaining: creditCentsRemaining(after.remainingSeconds),
      ...(step.facts && refundPayload(step.facts)),
      ...step.cause,
    },
    actor: { type: 'system' },
    dedupeKey: `trial_pack:${pack.id}:${version}`,
    now,
  });
  if (change === 'expired') {
    const news = expiryNews(pack, { ...after, expiresAt: pack.expiresAt }, now);
    await recordEvent(tx, { accountId: pack.accountId, news, dedupeKey: `${news.type}:${pack.id}`, now });
  }
  const { email: to } = await tx.findOneOrFail(Account, pack.accountId);
  const notice = noticeOf(step, change);
  const naturalKey = `trial_pack:${pack.id}:${version}`;
  if (notice) await queueEmail(tx, { accountId: pack.accountId, to, naturalKey, ...notice }, now);
  return change;
}

/** A refund of a part takes a part of the credit back; what it says about the rest stands in the payload. */
const ACTIONS = {
  suspended: 'trial_pack.suspended',
  reinstated: 'trial_pack.reinstated',
  reduced: 'trial_pack.credit_reduced',
  revoked: 'trial_pack.revoked',
  expired: 'trial_pack.expired',
} as const satisfies Record<PackChange, AuditAction>;

function refundPayload({ amountCents, amountRefundedCents, spentSeconds }: NonNullable<Step['facts']>) {
  return {
    amount_cents: amountCents,
    amount_refunded_cents: amountRefundedCents,
    spent_seconds: spentSeconds,
  };
}

type Notice = Mail extends infer M ? (M extends Mail ? Pick<M, 'template' | 'data'> : never) : never;

function noticeOf({ pack, after, facts }: Step, change: PackChange): Notice | null {
  const { expiresAt } = pack;
  const creditCents = creditCentsRemaining(after.remainingSeconds);
  switch (change) {
    case 'suspended':
      return { template: 'trial_pack_suspended', data: { creditCents, expiresAt } };
    case 'reinstated':
      return { template: 'trial_pack_reinstated', data: { creditCents, expiresAt } };
    case 'reduced':
    case 'revoked': {
      const refundedCents = facts?.amountRefundedCents ?? 0;
      const currency = facts?.currency ?? 'usd';
      return {
        template: 'trial_pack_refunded',
        data: { refundedCents: refundedCents === 0 ? null : refundedCents, currency, creditCents },
      };
    }
    case 'expired': {
      const unspentCents = creditCentsRemaining(pack.remainingSeconds);
      if (unspentCents === 0) return null;
      return { template: 'trial_pack_expired', data: { unspentCents, expiredAt: expiresAt } };
    }
  }
}

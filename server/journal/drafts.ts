import type { Account } from '../database/entities/account.ts';
import type { AuditEntry, Email } from '../database/entities/journal.ts';
import type { BillingEvent } from '../database/entities/webhooks.ts';

/*
 * A fact to be written down once. What names it is unique among all accounts; its place (position and hash, or
 * sequence) is found when it is written.
 */

export type AuditDraft = { readonly kind: 'audit' } & Readonly<
  Omit<AuditEntry, 'id' | 'position' | 'prevHash' | 'hash' | symbol>
>;

export type EventDraft = { readonly kind: 'event' } & Readonly<
  Omit<BillingEvent, 'id' | 'sequence' | symbol>
>;

/** The columns of an account that switch notices off. */
export type NoticeSwitch = keyof Pick<Account, 'receiptEmails' | 'tierChangeEmails' | 'renewalEmails'>;

export type MailDraft = {
  readonly kind: 'mail';
  /** What switches it off; null for what every account is told. */
  readonly switchedBy: NoticeSwitch | null;
} & Readonly<Pick<Email, 'accountId' | 'naturalKey' | 'template' | 'toAddress' | 'data' | 'createdAt'>>;

export type Draft = AuditDraft | EventDraft | MailDraft;

/** What names the fact, within its kind. */
export function keyOf(draft: Draft): string {
  return draft.kind === 'mail' ? draft.naturalKey : draft.dedupeKey;
}

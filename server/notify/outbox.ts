import type { Tx } from '../database/connection.ts';
import { holdAccount } from '../database/locks.ts';
import type { MailDraft } from '../journal/drafts.ts';
import { writeDown } from '../journal/write-down.ts';
import { type EmailTemplate, type EmailTemplates, SWITCHED_BY } from './templates.ts';

/** A mail about one fact; the natural key names the fact, such as `dunning:in_123:2`. */
export type Mail = {
  [T in EmailTemplate]: {
    accountId: string;
    to: string;
    template: T;
    data: EmailTemplates[T];
    naturalKey: string;
  };
}[EmailTemplate];

/**
 * Puts a mail into the outbox, due at once, in the caller's transaction. False, and nothing written, if this
 * natural key was queued before or the account has switched this notice off. Locks the account's row.
 */
export async function queueEmail(tx: Tx, mail: Mail, now: Date): Promise<boolean> {
  await holdAccount(tx, mail.accountId);
  return (await writeDown(tx, [mailDraft(mail, now)])).size > 0;
}

/** The same mail, to be written down with other facts. */
export function mailDraft({ accountId, to, template, data, naturalKey }: Mail, now: Date): MailDraft {
  return {
    kind: 'mail',
    accountId,
    naturalKey,
    template,
    toAddress: to,
    data,
    createdAt: now,
    switchedBy: isSwitchable(template) ? SWITCHED_BY[template] : null,
  };
}

function isSwitchable(template: EmailTemplate): template is keyof typeof SWITCHED_BY {
  return template in SWITCHED_BY;
}

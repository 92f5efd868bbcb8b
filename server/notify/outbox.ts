import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { Email } from '../database/entities/journal.ts';
import { enqueue } from '../database/jobs.ts';
import { uuidv7 } from '../database/uuid.ts';
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
 * Puts a mail into the outbox, with the job that sends it, in the caller's transaction. False, and nothing
 * written, if this natural key was queued before or the account has switched this notice off.
 */
export async function queueEmail(tx: Tx, mail: Mail, now: Date): Promise<boolean> {
  if (await isSwitchedOff(tx, mail)) return false;
  const { accountId, to, template, data, naturalKey } = mail;
  const id = uuidv7(now);
  const inserted = await tx
    .createQueryBuilder(Email)
    .insert({ id, accountId, naturalKey, template, toAddress: to, data, state: 'pending', createdAt: now })
    .onConflict('naturalKey')
    .ignore()
    .returning('id')
    .execute('all');
  if (inserted.length === 0) return false;
  await enqueue(tx, 'send-email', { emailId: id });
  return true;
}

async function isSwitchedOff(tx: Tx, { accountId, template }: Mail): Promise<boolean> {
  if (!isSwitchable(template)) return false;
  const account = await tx.findOneOrFail(Account, accountId);
  return !account[SWITCHED_BY[template]];
}

function isSwitchable(template: EmailTemplate): template is keyof typeof SWITCHED_BY {
  return template in SWITCHED_BY;
}

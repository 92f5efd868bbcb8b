import type { World } from './world.ts';

/** One mail as the mailbox keeps it: what was sent, and the fields Resend shows of it. */
export interface Mail {
  readonly id: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly replyTo: readonly string[];
  readonly subject: string;
  readonly html: string | null;
  readonly text: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly tags: readonly { readonly name: string; readonly value: string }[];
  readonly attachments: readonly { readonly filename: string; readonly contentType: string }[];
  readonly scheduledAt: string | null;
  readonly idempotencyKey: string | null;
  /** Unix seconds on the local Stripe's clock. */
  readonly createdAt: number;
}

/**
 * What can be made to go wrong with the next requests. `timeout_after` accepts the mails and never answers;
 * `under_way` as well, and says of the next request with the same key that this one has not ended yet.
 */
export const MAIL_FAULTS = [
  'rate_limited',
  'server_error',
  'garbage',
  'timeout_before',
  'timeout_after',
  'under_way',
] as const;
export type MailFault = (typeof MAIL_FAULTS)[number];

/** All mails, newest first. */
export function listMails(world: World): readonly Mail[] {
  return world.hidden
    .all<Mail>('mail')
    .map(({ value }) => value)
    .reverse();
}

export function findMail(world: World, id: string): Mail | undefined {
  return world.hidden.get<Mail>('mail', id);
}

/** Empties the mailbox. Idempotency keys stay, as a mail once sent stays sent. */
export function clearMails(world: World): void {
  for (const { id } of world.hidden.all('mail')) world.hidden.remove('mail', id);
}

/** Keeps a mail as arrived now. */
export function keepMail(world: World, mail: Mail): void {
  world.hidden.put('mail', mail.id, mail);
}

/** Makes the next `count` requests that send fail in one way; 0 takes the fault away. */
export function failNextMails(world: World, kind: MailFault, count: number): void {
  if (count > 0) world.hidden.put('mail_fault', 'next', { kind, left: count });
  else world.hidden.remove('mail_fault', 'next');
}

/** The fault that waits for the next mails, if one does. */
export function pendingMailFault(world: World): { kind: MailFault; left: number } | undefined {
  return world.hidden.get('mail_fault', 'next');
}

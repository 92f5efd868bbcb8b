import type { EmailSender, OutgoingEmail, SendResult } from '../../../server/notify/resend.ts';
import { reached } from '../../support/states.ts';

export type Mailed = { to: string; subject: string; text: string };

/** A provider of mail that keeps what it accepted, and accepts each idempotency key once, as Resend does. */
export function startProvider(): EmailSender & { mailed(): Mailed[] } {
  const accepted = new Map<string, readonly OutgoingEmail[]>();
  const take = async (mails: readonly OutgoingEmail[], key: string): Promise<SendResult> => {
    const earlier = accepted.get(key);
    if (earlier && JSON.stringify(earlier) !== JSON.stringify(mails))
      return {
        kind: 'refused',
        status: 409,
        code: 'invalid_idempotent_request',
        reason: 'same key, other mails',
      };
    reached('a batch of mails goes out again under its key', earlier !== undefined);
    accepted.set(key, mails);
    return { kind: 'accepted', providerIds: mails.map(({ subject }) => `mail ${key} ${subject}`) };
  };
  return {
    send: (mail, key) => take([mail], key),
    sendBatch: take,
    mailed: () =>
      [...accepted.values()]
        .flat()
        .map(({ to, subject, text }) => ({ to, subject, text }))
        .sort((a, b) => a.text.localeCompare(b.text)),
  };
}

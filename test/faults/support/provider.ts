import type { EmailSender } from '../../../server/notify/resend.ts';

export type Mailed = { to: string; subject: string; text: string };

/** A provider of mail that keeps what it accepted, and accepts each idempotency key once, as Resend does. */
export function startProvider(): EmailSender & { mailed(): Mailed[] } {
  const accepted = new Map<string, Mailed>();
  return {
    async send({ to, subject, text }, key) {
      const earlier = accepted.get(key);
      if (earlier && earlier.text !== text)
        return { kind: 'refused', code: 'invalid_idempotent_request', reason: 'same key, other mail' };
      accepted.set(key, { to, subject, text });
      return { kind: 'accepted', providerId: `mail-${key}` };
    },
    mailed: () => [...accepted.values()].sort((a, b) => a.text.localeCompare(b.text)),
  };
}

import type { AuditAction } from '../../shared/audit.ts';
import type { EventNews } from '../../shared/events.ts';
import { append } from '../audit/append.ts';
import type { Tx } from '../database/connection.ts';
import { type Mail, queueEmail } from '../notify/outbox.ts';
import type { EmailTemplate, EmailTemplates } from '../notify/templates.ts';
import { recordEvent } from '../webhooks/record-event.ts';

/** What led to a change, for the payload of its audit entry: an event, a request or an operator's command. */
export type Source = Readonly<Record<string, string>>;

/** A fact to be written down once: the key names the fact, never the event that told of it. */
export type Effect =
  | {
      readonly kind: 'audit';
      readonly key: string;
      readonly action: AuditAction;
      readonly target: string | null;
      readonly payload: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'event'; readonly key: string; readonly news: EventNews }
  | MailEffect;

type MailEffect = {
  [T in EmailTemplate]: {
    readonly kind: 'mail';
    readonly key: string;
    readonly template: T;
    readonly data: EmailTemplates[T];
    /** The account's address where it is left out. */
    readonly to?: string;
  };
}[EmailTemplate];

/** Writes effects in the caller's transaction, which holds the account's row lock; those known already stay as they are. */
export async function writeEffects(
  tx: Tx,
  { id: accountId, email: to }: { id: string; email: string },
  effects: readonly Effect[],
  now: Date,
): Promise<void> {
  for (const effect of effects) {
    if (effect.kind === 'audit') {
      const { action, target: targetResourceId, payload, key: dedupeKey } = effect;
      const actor = { type: 'system' } as const;
      await append(tx, { accountId, action, targetResourceId, payload, actor, dedupeKey, now });
    } else if (effect.kind === 'event') {
      await recordEvent(tx, { accountId, news: effect.news, dedupeKey: effect.key, now });
    } else {
      const { kind: _, key: naturalKey, to: other = to, ...mail } = effect;
      await queueEmail(tx, { accountId, to: other, naturalKey, ...mail } satisfies Mail, now);
    }
  }
}

import type { AuditAction } from '../../../shared/audit.ts';
import type { EventNews } from '../../../shared/events.ts';
import { auditDraft } from '../../audit/append.ts';
import type { Draft } from '../../journal/drafts.ts';
import { type Mail, mailDraft } from '../../notify/outbox.ts';
import type { EmailTemplate, EmailTemplates } from '../../notify/templates.ts';
import { eventDraft } from '../../webhooks/record-event.ts';

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

/** The facts as they are to be written down about an account, whose row the caller has locked. */
export function draftsOf(
  account: { id: string; email: string },
  effects: readonly Effect[],
  now: Date,
): Draft[] {
  return effects.map((effect) => draftOf(account, effect, now));
}

function draftOf({ id: accountId, email }: { id: string; email: string }, effect: Effect, now: Date): Draft {
  switch (effect.kind) {
    case 'audit': {
      const { key: dedupeKey, action, target: targetResourceId, payload } = effect;
      const actor = { type: 'system' } as const;
      return auditDraft({ accountId, action, targetResourceId, payload, actor, dedupeKey, now });
    }
    case 'event':
      return eventDraft({ accountId, news: effect.news, dedupeKey: effect.key, now });
    case 'mail': {
      const { kind: _, key: naturalKey, to = email, ...mail } = effect;
      return mailDraft({ accountId, to, naturalKey, ...mail } satisfies Mail, now);
    }
  }
}

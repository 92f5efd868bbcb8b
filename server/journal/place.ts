import type { Account } from '../database/entities/account.ts';
import { uuidv7 } from '../database/uuid.ts';
import { type Link, linkHash } from './chain.ts';
import type { AuditDraft, Draft, EventDraft, MailDraft } from './drafts.ts';
import type { Standing } from './look-up.ts';
import { type DeliveryRow, deliveryRow, type HeadRow, type Rows, textOf } from './rows.ts';

/**
 * The rows that new facts become, each at the end of its account's audit log or feed, in the order given, and on
 * its way to every endpoint that wants it.
 */
export function placed(drafts: readonly Draft[], accounts: ReadonlyMap<string, Standing>): Rows {
  const ends = new Map<string, End>();
  const endOf = (accountId: string): End => {
    const known = ends.get(accountId);
    if (known) return known;
    const standing = accounts.get(accountId);
    if (!standing) throw new Error(`Account ${accountId} is not in the database`);
    const fresh = { ...standing, moved: false };
    ends.set(accountId, fresh);
    return fresh;
  };
  const rows = {
    audit: drafts.flatMap((draft) => (draft.kind === 'audit' ? [entry(draft, endOf(draft.accountId))] : [])),
    ...told(drafts, endOf),
    mails: drafts.flatMap((draft) => (draft.kind === 'mail' ? [mail(draft)] : [])),
  };
  return { ...rows, heads: [...ends].filter(([, { moved }]) => moved).map(([id, end]) => headOf(id, end)) };
}

/** Moves as facts are put there. */
type End = { -readonly [K in keyof Standing]: Standing[K] } & { moved: boolean };

function entry(draft: AuditDraft, end: End): Rows['audit'][number] {
  const { row, ...moved } = nextEntry(draft, end);
  Object.assign(end, moved, { moved: true });
  return row;
}

/** The row that a fact becomes behind this end of its account's audit log, and where the log ends with it. */
export function nextEntry(
  { kind: _, ...draft }: AuditDraft,
  end: Readonly<Pick<Account, 'auditPosition' | 'auditHash'>>,
): { row: Rows['audit'][number]; auditPosition: number; auditHash: Buffer } {
  const link: Link = {
    ...draft,
    id: uuidv7(draft.occurredAt),
    position: end.auditPosition + 1,
    // What is hashed has to be what can be read again, so without undefined members.
    payload: JSON.parse(JSON.stringify(draft.payload)),
    prevHash: end.auditHash ?? null,
  };
  const hash = linkHash(link);
  const row = {
    id: link.id,
    account_id: link.accountId,
    position: link.position,
    dedupe_key: link.dedupeKey,
    actor_type: link.actorType,
    actor_account_id: link.actorAccountId ?? null,
    actor_key_id: link.actorKeyId ?? null,
    action: link.action,
    target_resource_id: link.targetResourceId ?? null,
    payload: link.payload,
    occurred_at: link.occurredAt,
    prev_hash: link.prevHash ? textOf(link.prevHash) : null,
    hash: textOf(hash),
  };
  return { row, auditPosition: link.position, auditHash: hash };
}

function told(
  drafts: readonly Draft[],
  endOf: (accountId: string) => End,
): Pick<Rows, 'events' | 'deliveries'> {
  const deliveries: DeliveryRow[] = [];
  const events = drafts.flatMap((draft) => {
    if (draft.kind !== 'event') return [];
    const end = endOf(draft.accountId);
    const row = event(draft, end);
    for (const endpoint of end.endpoints) {
      if (!endpoint.events.includes(draft.type)) continue;
      end.webhookPosition += 1;
      deliveries.push(
        deliveryRow({
          accountId: draft.accountId,
          endpointId: endpoint.id,
          position: end.webhookPosition,
          eventId: row.id,
          eventType: draft.type,
          at: draft.emittedAt,
        }),
      );
    }
    return [row];
  });
  return { events, deliveries };
}

function event(draft: EventDraft, end: End): Rows['events'][number] {
  end.eventSequence += 1;
  end.moved = true;
  return {
    id: uuidv7(draft.emittedAt),
    account_id: draft.accountId,
    sequence: end.eventSequence,
    type: draft.type,
    data: draft.data,
    dedupe_key: draft.dedupeKey,
    emitted_at: draft.emittedAt,
  };
}

function mail(draft: MailDraft): Rows['mails'][number] {
  return {
    id: uuidv7(draft.createdAt),
    account_id: draft.accountId,
    natural_key: draft.naturalKey,
    template: draft.template,
    to_address: draft.toAddress,
    data: draft.data,
    state: 'pending',
    // Whoever inserts a row without it may be sending it by itself.
    alone: false,
    created_at: draft.createdAt,
  };
}

function headOf(id: string, end: End): HeadRow {
  return {
    id,
    audit_position: end.auditPosition,
    audit_hash: end.auditHash && textOf(end.auditHash),
    event_sequence: end.eventSequence,
    webhook_position: end.webhookPosition,
  };
}

import type { AuditAction } from '../../shared/audit.ts';
import type { Tx } from '../database/connection.ts';
import { holdAccount } from '../database/locks.ts';
import type { AuditDraft } from '../journal/drafts.ts';
import { writeDown } from '../journal/write-down.ts';

/** Who did it: a customer by a key, this service by itself (whatever Stripe reports included), or an operator. */
export type Actor =
  | { readonly type: 'customer'; readonly accountId: string; readonly keyId: string }
  | { readonly type: 'system' }
  | { readonly type: 'staff' };

export type NewAuditEntry = {
  /** The uuid of the account. */
  accountId: string;
  action: AuditAction;
  /** As the wire shows it, such as `sub_…`. */
  targetResourceId: string | null;
  /** Plain JSON; the source event or request belongs in it. */
  payload: Readonly<Record<string, unknown>>;
  actor: Actor;
  /** Names the fact. A second entry with the same key is not written. */
  dedupeKey: string;
  now: Date;
};

/**
 * Writes one fact at the end of the account's audit log, in the caller's transaction, and returns whether it
 * was new. Locks the account's row, so that positions have no gaps and the chain has one end.
 */
export async function append(tx: Tx, entry: NewAuditEntry): Promise<boolean> {
  await holdAccount(tx, entry.accountId);
  return (await writeDown(tx, [auditDraft(entry)])).size > 0;
}

/** The same fact, to be written down with others. */
export function auditDraft({ actor, now, ...entry }: NewAuditEntry): AuditDraft {
  return {
    kind: 'audit',
    ...entry,
    actorType: actor.type,
    actorAccountId: actor.type === 'customer' ? actor.accountId : null,
    actorKeyId: actor.type === 'customer' ? actor.keyId : null,
    occurredAt: now,
  };
}

import type { AuditAction } from '../../shared/audit.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { AuditEntry } from '../database/entities/journal.ts';
import { uuidv7 } from '../database/uuid.ts';
import { type Link, linkHash } from './chain.ts';

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
  const head = await lockHead(tx, entry.accountId);
  const link: Link = {
    id: uuidv7(entry.now),
    accountId: entry.accountId,
    position: head.position + 1,
    dedupeKey: entry.dedupeKey,
    actorType: entry.actor.type,
    actorAccountId: entry.actor.type === 'customer' ? entry.actor.accountId : null,
    actorKeyId: entry.actor.type === 'customer' ? entry.actor.keyId : null,
    action: entry.action,
    targetResourceId: entry.targetResourceId,
    // What is hashed has to be what can be read again, so without undefined members.
    payload: JSON.parse(JSON.stringify(entry.payload)),
    occurredAt: entry.now,
    prevHash: head.hash,
  };
  const hash = linkHash(link);
  const inserted = await tx
    .createQueryBuilder(AuditEntry)
    .insert({ ...link, hash })
    .onConflict('dedupeKey')
    .ignore()
    .returning('id')
    .execute('all');
  if (inserted.length === 0) return false;
  await tx.nativeUpdate(Account, { id: entry.accountId }, { auditPosition: link.position, auditHash: hash });
  return true;
}

type Head = { position: number; hash: Buffer | null };

/** Reads past the entity manager, which would answer with what it remembers. */
async function lockHead(tx: Tx, accountId: string): Promise<Head> {
  const rows = await tx.execute<{ audit_position: string; audit_hash: Buffer | null }[]>(
    'select audit_position, audit_hash from account where id = ? for no key update',
    [accountId],
  );
  const row = rows[0];
  if (!row) throw new Error(`Account ${accountId} is not in the database`);
  return { position: Number(row.audit_position), hash: row.audit_hash };
}

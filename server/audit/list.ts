import type { AuditListInput, AuditListResult, AuditEntry as WireEntry } from '../../shared/audit.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { decodeCursor, encodeCursor } from '../database/cursor.ts';
import { AuditEntry } from '../database/entities/journal.ts';

const LIST = 'audit';

/**
 * Reads one page of the account's audit log, newest first. Pages do not shift while entries are added.
 * Throws `bad-request` naming `cursor` for a cursor that this list did not give to this account.
 */
export async function listAudit(
  db: Database,
  accountId: string,
  { limit, cursor, ...filter }: AuditListInput,
): Promise<AuditListResult> {
  const rows = await db.orm.em.fork().find(
    AuditEntry,
    {
      ...matching(accountId, filter),
      ...(cursor !== undefined && { position: { $lt: decodeCursor(LIST, accountId, cursor) } }),
    },
    { orderBy: { position: 'desc' }, limit: limit + 1, disableIdentityMap: true },
  );
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    data: page.map(toWire),
    next_cursor: rows.length > limit && last ? encodeCursor(LIST, accountId, last.position) : null,
  };
}

export type AuditFilter = Pick<AuditListInput, 'action' | 'since' | 'until'>;

/** What selects the entries of an account that pass a filter: from `since` on and before `until`. */
export function matching(accountId: string, { action, since, until }: AuditFilter) {
  return {
    accountId,
    ...(action !== undefined && { action }),
    ...((since !== undefined || until !== undefined) && {
      occurredAt: {
        ...(since !== undefined && { $gte: new Date(since) }),
        ...(until !== undefined && { $lt: new Date(until) }),
      },
    }),
  };
}

/** The entry as every reader sees it. */
export function toWire(entry: AuditEntry): WireEntry {
  return {
    id: entry.id,
    account_id: formatId('acc', entry.accountId),
    actor_type: entry.actorType,
    actor_account_id: entry.actorAccountId ? formatId('acc', entry.actorAccountId) : null,
    actor_key_id: entry.actorKeyId ? formatId('key', entry.actorKeyId) : null,
    action: entry.action,
    target_resource_id: entry.targetResourceId ?? null,
    payload: entry.payload,
    ip_address: null,
    user_agent: null,
    timestamp: toWireTime(entry.occurredAt),
  };
}

import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { UsageListInput, UsageListResult, CreditEntry as WireEntry } from '../../shared/usage.ts';
import type { Database } from '../database/connection.ts';
import { decodeCursor, encodeCursor } from '../database/cursor.ts';
import { CreditEntry } from '../database/entities/credit.ts';

const LIST = 'credit';

/**
 * Reads one page of what came to and went from the account's credit, newest first; reports of which nothing was
 * accepted changed nothing and are left out. Pages do not shift while entries are added. Throws `bad-request`
 * naming `cursor` for a cursor that this list did not give to this account.
 */
export async function listUsage(
  db: Database,
  accountId: string,
  { limit, cursor }: UsageListInput,
): Promise<UsageListResult> {
  const rows = await db.orm.em.fork().find(
    CreditEntry,
    {
      accountId,
      seconds: { $ne: 0 },
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

function toWire(entry: CreditEntry): WireEntry {
  return {
    id: formatId('cre', entry.id),
    kind: entry.kind,
    seconds: entry.seconds,
    balance_seconds: entry.balanceSeconds,
    session_id: entry.sessionId ?? null,
    used_at: entry.usedAt ? toWireTime(entry.usedAt) : null,
    timestamp: toWireTime(entry.createdAt),
  };
}

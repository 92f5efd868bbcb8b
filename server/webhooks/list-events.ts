import type { EventListInput, EventListResult } from '../../shared/events.ts';
import { eventListResult } from '../../shared/events.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import { BillingEvent } from '../database/entities/webhooks.ts';

/**
 * Reads the account's events after a sequence number, oldest first. Numbers have no gaps and appear in order,
 * so whoever reads on from the last one has had every event once.
 */
export async function listEvents(
  db: Database,
  accountId: string,
  { after, limit }: EventListInput,
): Promise<EventListResult> {
  const rows = await db.orm.em
    .fork()
    .find(
      BillingEvent,
      { accountId, sequence: { $gt: after } },
      { orderBy: { sequence: 'asc' }, limit: limit + 1, disableIdentityMap: true },
    );
  return eventListResult.parse({
    data: rows.slice(0, limit).map((event) => ({ sequence: event.sequence, ...eventBody(event) })),
    has_more: rows.length > limit,
  });
}

/** The body of the event as every delivery carries it: the same row always gives the same text. */
export function eventBody({ id, type, accountId, emittedAt, data }: BodyOf) {
  return {
    id: formatId('evt', id),
    type,
    account_id: formatId('acc', accountId),
    emitted_at: toWireTime(emittedAt),
    data,
  };
}

type BodyOf = Pick<BillingEvent, 'id' | 'accountId' | 'emittedAt' | 'data'> & { type: string };

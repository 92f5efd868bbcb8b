import { EVENT_DATA, type EventNews } from '../../shared/events.ts';
import type { Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { BillingEvent, WebhookDelivery, WebhookEndpoint } from '../database/entities/webhooks.ts';
import { uuidv7 } from '../database/uuid.ts';

export type NewEvent = {
  /** The uuid of the account. */
  accountId: string;
  news: EventNews;
  /** Names the fact. A second event with the same key is not written. */
  dedupeKey: string;
  now: Date;
};

/**
 * Puts one event at the end of the account's feed, and on its way to every endpoint that wants it, in the
 * caller's transaction; returns whether it was new. The account's row stays locked until the commit, so a
 * reader who has seen number 7 has seen 6. Paused endpoints get theirs when they are active again.
 */
export async function recordEvent(tx: Tx, { accountId, news, dedupeKey, now }: NewEvent): Promise<boolean> {
  const head = await lockFeed(tx, accountId);
  const id = uuidv7(now);
  const sequence = head.sequence + 1;
  const data = EVENT_DATA[news.type].parse(news.data);
  const inserted = await tx
    .createQueryBuilder(BillingEvent)
    .insert({ id, accountId, sequence, type: news.type, data, dedupeKey, emittedAt: now })
    .onConflict('dedupeKey')
    .ignore()
    .returning('id')
    .execute('all');
  if (inserted.length === 0) return false;
  const endpoints = await tx.find(
    WebhookEndpoint,
    { accountId, deletedAt: null, events: { $contains: [news.type] } },
    { fields: ['id'], orderBy: { position: 'asc' } },
  );
  await tx.nativeUpdate(
    Account,
    { id: accountId },
    { eventSequence: sequence, webhookPosition: head.position + endpoints.length },
  );
  await queueDeliveries(
    tx,
    endpoints.map((endpoint, index) => ({
      accountId,
      endpointId: endpoint.id,
      position: head.position + index + 1,
      eventId: id,
      eventType: news.type,
    })),
    now,
  );
  return true;
}

/** Where the feed and the deliveries of an account end. Reads past the entity manager, and locks. */
export async function lockFeed(tx: Tx, accountId: string): Promise<{ sequence: number; position: number }> {
  const [row] = await tx.execute<{ event_sequence: string; webhook_position: string }[]>(
    'select event_sequence, webhook_position from account where id = ? for no key update',
    [accountId],
  );
  if (!row) throw new Error(`Account ${accountId} is not in the database`);
  return { sequence: Number(row.event_sequence), position: Number(row.webhook_position) };
}

type NewDelivery = Pick<
  WebhookDelivery,
  'accountId' | 'endpointId' | 'position' | 'eventId' | 'eventType'
> & {
  id?: string;
  replayOf?: string;
};

/** Writes deliveries to be sent at once, and makes their endpoints due. The caller has locked the account. */
export async function queueDeliveries(tx: Tx, deliveries: readonly NewDelivery[], now: Date): Promise<void> {
  if (deliveries.length === 0) return;
  await tx.insertMany(
    WebhookDelivery,
    deliveries.map((delivery) => ({
      id: uuidv7(now),
      ...delivery,
      state: 'pending' as const,
      nextAttemptAt: now,
      createdAt: now,
    })),
  );
  const endpointIds = [...new Set(deliveries.map(({ endpointId }) => endpointId))].sort();
  for (const endpointId of endpointIds) {
    await tx.execute('update webhook_endpoint set next_due_at = least(next_due_at, ?) where id = ?', [
      now,
      endpointId,
    ]);
  }
}

/** Writes down where the deliveries of an account end now. The caller has locked the account. */
export async function moveTo(tx: Tx, accountId: string, webhookPosition: number): Promise<void> {
  await tx.nativeUpdate(Account, { id: accountId }, { webhookPosition });
}

import { EVENT_DATA, type EventNews } from '../../shared/events.ts';
import type { Tx } from '../database/connection.ts';
import { holdAccount, noteHeld } from '../database/locks.ts';
import type { EventDraft } from '../journal/drafts.ts';
import { deliveryRow, NO_ROWS, writeRows } from '../journal/rows.ts';
import { writeDown } from '../journal/write-down.ts';

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
export async function recordEvent(tx: Tx, event: NewEvent): Promise<boolean> {
  await holdAccount(tx, event.accountId);
  return (await writeDown(tx, [eventDraft(event)])).size > 0;
}

/** The same event, to be written down with other facts. */
export function eventDraft({ accountId, news: { type, data }, dedupeKey, now }: NewEvent): EventDraft {
  return { kind: 'event', accountId, type, data: EVENT_DATA[type].parse(data), dedupeKey, emittedAt: now };
}

/** Where the feed and the deliveries of an account end. Reads past the entity manager, and locks. */
export async function lockFeed(tx: Tx, accountId: string): Promise<{ sequence: number; position: number }> {
  const [row] = await tx.execute<{ event_sequence: string; webhook_position: string }[]>(
    'select event_sequence, webhook_position from account where id = ? for no key update',
    [accountId],
  );
  if (!row) throw new Error(`Account ${accountId} is not in the database`);
  noteHeld(tx, accountId);
  return { sequence: Number(row.event_sequence), position: Number(row.webhook_position) };
}

type NewDelivery = {
  readonly id?: string;
  readonly eventId: string;
  readonly eventType: string;
  readonly replayOf?: string;
  readonly position: number;
};

/**
 * Writes deliveries to be sent at once, makes their endpoint due, and moves the end of the account's deliveries to
 * `end`. The caller has locked the account.
 */
export async function queueDeliveries(
  tx: Tx,
  { accountId, endpointId, end }: { accountId: string; endpointId: string; end: number },
  deliveries: readonly NewDelivery[],
  at: Date,
): Promise<void> {
  const unmoved = { audit_position: null, audit_hash: null, event_sequence: null };
  await writeRows(tx, {
    ...NO_ROWS,
    deliveries: deliveries.map((delivery) => deliveryRow({ ...delivery, accountId, endpointId, at })),
    heads: [{ id: accountId, ...unmoved, webhook_position: end }],
  });
}

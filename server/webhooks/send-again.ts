import type { Tx } from '../database/connection.ts';

/** A delivery that has not arrived. */
export type Undone = {
  readonly id: string;
  readonly eventId: string;
  readonly state: 'pending' | 'in_flight' | 'failed' | 'dlq';
};

/**
 * The deliveries of these events to an endpoint that have not arrived, one for each event, locked in the order in
 * which a dispatcher takes them. The caller has locked the endpoint, so none of them is being settled meanwhile.
 */
export async function findUndone(
  tx: Tx,
  endpointId: string,
  eventIds: readonly string[],
): Promise<readonly Undone[]> {
  if (eventIds.length === 0) return [];
  const marks = eventIds.map(() => '?').join(', ');
  // Two conditions, because the given up have an index of their own.
  const rows = await tx.execute<Undone[]>(
    `select id, event_id as "eventId", state from webhook_delivery
      where (endpoint_id = ? and state in ('pending', 'in_flight', 'failed') and event_id in (${marks}))
         or (endpoint_id = ? and state = 'dlq' and event_id in (${marks}))
      order by position for no key update`,
    [endpointId, ...eventIds, endpointId, ...eventIds],
  );
  // Of earlier versions there may be several: what is on its way already comes before what is not.
  const found = new Map<string, Undone>();
  for (const row of rows) {
    const before = found.get(row.eventId);
    if (!before || !isUnderWay(before)) found.set(row.eventId, row);
  }
  return [...found.values()];
}

function isUnderWay({ state }: Undone): boolean {
  return state === 'pending' || state === 'in_flight';
}

/**
 * Lets deliveries that failed or were given up begin anew, with all of their tries, in their old place or at a
 * new one. The caller has locked them, their endpoint and the account.
 */
export async function sendAgain(
  tx: Tx,
  endpointId: string,
  deliveries: readonly (Undone & { readonly position: number | null })[],
  now: Date,
): Promise<void> {
  if (deliveries.length === 0) return;
  const values = deliveries.map(() => '(?::uuid, ?::bigint)').join(', ');
  await tx.execute(
    `update webhook_delivery d
        set state = 'pending', attempts = 0, next_attempt_at = ?, position = coalesce(v.position, d.position)
       from (values ${values}) as v (id, position) where d.id = v.id`,
    [now, ...deliveries.flatMap(({ id, position }) => [id, position])],
  );
  const dead = deliveries.filter(({ state }) => state === 'dlq').length;
  await tx.execute(
    `update webhook_endpoint set failed_count = failed_count - ?, dlq_count = dlq_count - ?,
            next_due_at = least(next_due_at, ?) where id = ?`,
    [deliveries.length - dead, dead, now, endpointId],
  );
}

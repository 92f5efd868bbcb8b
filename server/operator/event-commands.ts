import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { deadEvents, replayEvent } from '../stripe/inbox/replay.ts';
import { accountNamed } from './account-word.ts';
import { type CommandContext, type Given, UsageError } from './command.ts';
import { withDatabase } from './database.ts';
import type { EventRow } from './timeline.ts';
import { EVENT_STATES, EVENTS_SHOWN } from './words.ts';

/** `events list`: what `commands.ts` says of it. */
export async function eventsList({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const [state, named] = [stateOf(given), given.option('account')];
  const account = named === undefined ? null : accountNamed(named);
  const events = await withDatabase(config, async (db) => {
    const accountId = account === null ? null : await account(db);
    return await db.orm.em
      .fork()
      .find(
        StripeEvent,
        { ...(state !== null && { state }), ...(accountId !== null && { accountId }) },
        { orderBy: { receivedAt: 'desc', id: 'desc' }, limit: EVENTS_SHOWN, exclude: ['raw'] },
      );
  });
  const rows = events.map(toRow);
  for (const row of rows) {
    const reason = row.error === null ? '' : `  ${row.error}`;
    const owner = row.account_id ?? '-';
    say(`${row.event_id}  ${row.received_at}  ${row.state.padEnd(8)}  ${row.type}  ${owner}${reason}`);
  }
  if (rows.length === 0) say('There are none.');
  answer({ data: rows });
}

/** `events show`: what `commands.ts` says of it. */
export async function eventsShow({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const id = given.word('EVENT_ID');
  const event = await withDatabase(config, (db) => db.orm.em.fork().findOne(StripeEvent, id));
  if (!event) throw new ProblemError('not-found', `There is no event ${id} here.`);
  const row = toRow(event);
  for (const [name, value] of Object.entries(row)) say(`${name.padEnd(13)} ${value ?? '-'}`);
  const body: unknown = JSON.parse(Buffer.from(event.raw).toString());
  say(JSON.stringify(body, null, 2));
  answer({ ...row, body });
}

/** `events replay`: what `commands.ts` says of it. */
export async function eventsReplay(
  { config, now, say, answer }: CommandContext,
  given: Given,
): Promise<void> {
  const id = given.optionalWord('EVENT_ID');
  const all = given.flag('all-dead');
  if ((id === undefined) !== all) throw new UsageError('name one event, or say --all-dead');
  const replayed = await withDatabase(config, async (db) => {
    const ids = id === undefined ? await db.transaction(deadEvents) : [id];
    for (const eventId of ids) await db.transaction((tx) => replayEvent(tx, eventId, now()));
    return ids;
  });
  for (const eventId of replayed) say(`${eventId} goes back to the worker.`);
  if (replayed.length === 0) say('No event has been given up.');
  answer({ replayed });
}

function toRow(event: EventRow) {
  return {
    event_id: event.id,
    type: event.type,
    state: event.state,
    account_id: event.accountId ? formatId('acc', event.accountId) : null,
    object_id: event.objectId ?? null,
    customer_id: event.customerId ?? null,
    attempts: event.attempts,
    error: event.error ?? null,
    created_at: toWireTime(event.createdAt),
    received_at: toWireTime(event.receivedAt),
    processed_at: event.processedAt ? toWireTime(event.processedAt) : null,
  };
}

function stateOf(given: Given): (typeof EVENT_STATES)[number] | null {
  const text = given.option('state');
  if (text === undefined) return null;
  const state = EVENT_STATES.find((known) => known === text);
  if (state === undefined) throw new UsageError(`--state must be one of ${EVENT_STATES.join(', ')}`);
  return state;
}

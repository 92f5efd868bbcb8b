import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { deadEvents, replayEvent } from '../stripe/inbox/replay.ts';
import { ACCOUNT, accountNamed } from './account-word.ts';
import { type Command, type Given, UsageError } from './command.ts';
import { withDatabase } from './database.ts';
import type { EventRow } from './timeline.ts';

const STATES = ['received', 'done', 'ignored', 'dead'] as const;
const SHOWN = 100;

/** Stripe's events as they arrived: what became of each, and another try for those that were given up. */
export const EVENT_COMMANDS: readonly Command[] = [
  {
    name: 'events list',
    usage: `[--state STATE] [--account ${ACCOUNT}] [--json]`,
    summary: `List the newest ${SHOWN} events of Stripe; states are ${STATES.join(', ')}`,
    options: ['state', 'account'],
    async run({ config, say, answer }, given) {
      const [state, named] = [stateOf(given), given.option('account')];
      const account = named === undefined ? null : accountNamed(named);
      const events = await withDatabase(config, async (db) => {
        const accountId = account === null ? null : await account(db);
        return await db.orm.em
          .fork()
          .find(
            StripeEvent,
            { ...(state !== null && { state }), ...(accountId !== null && { accountId }) },
            { orderBy: { receivedAt: 'desc', id: 'desc' }, limit: SHOWN, exclude: ['raw'] },
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
    },
  },
  {
    name: 'events show',
    usage: 'EVENT_ID [--json]',
    summary: 'Show one event of Stripe with the body that was signed',
    options: [],
    words: ['EVENT_ID'],
    async run({ config, say, answer }, given) {
      const id = given.word('EVENT_ID');
      const event = await withDatabase(config, (db) => db.orm.em.fork().findOne(StripeEvent, id));
      if (!event) throw new ProblemError('not-found', `There is no event ${id} here.`);
      const row = toRow(event);
      for (const [name, value] of Object.entries(row)) say(`${name.padEnd(13)} ${value ?? '-'}`);
      const body: unknown = JSON.parse(Buffer.from(event.raw).toString());
      say(JSON.stringify(body, null, 2));
      answer({ ...row, body });
    },
  },
  {
    name: 'events replay',
    usage: '[EVENT_ID | --all-dead] [--json]',
    summary: 'Process events again that were set aside, once their reason is gone',
    options: [],
    flags: ['all-dead'],
    words: ['EVENT_ID'],
    async run({ config, now, say, answer }, given) {
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
    },
  },
];

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

function stateOf(given: Given): (typeof STATES)[number] | null {
  const text = given.option('state');
  if (text === undefined) return null;
  const state = STATES.find((known) => known === text);
  if (state === undefined) throw new UsageError(`--state must be one of ${STATES.join(', ')}`);
  return state;
}

import type { Tx } from '../database/connection.ts';
import { CHANNEL, type Kind } from '../database/due.ts';
import { run, type Statement } from '../database/statement.ts';
import { uuidv7 } from '../database/uuid.ts';

/** What is written of each table, and its type there. What is not named here has its column's default. */
export const COLUMNS = {
  audit_entry: {
    id: 'uuid',
    account_id: 'uuid',
    position: 'bigint',
    dedupe_key: 'text',
    actor_type: 'text',
    actor_account_id: 'uuid',
    actor_key_id: 'uuid',
    action: 'text',
    target_resource_id: 'text',
    payload: 'jsonb',
    occurred_at: 'timestamptz',
    prev_hash: 'bytea',
    hash: 'bytea',
  },
  event: {
    id: 'uuid',
    account_id: 'uuid',
    sequence: 'bigint',
    type: 'text',
    data: 'jsonb',
    dedupe_key: 'text',
    emitted_at: 'timestamptz',
  },
  webhook_delivery: {
    id: 'uuid',
    account_id: 'uuid',
    endpoint_id: 'uuid',
    position: 'bigint',
    event_id: 'uuid',
    event_type: 'text',
    state: 'text',
    replay_of: 'uuid',
    next_attempt_at: 'timestamptz',
    created_at: 'timestamptz',
  },
  email: {
    id: 'uuid',
    account_id: 'uuid',
    natural_key: 'text',
    template: 'text',
    to_address: 'text',
    data: 'jsonb',
    state: 'text',
    created_at: 'timestamptz',
    alone: 'boolean',
  },
  account: {
    id: 'uuid',
    audit_position: 'bigint',
    audit_hash: 'bytea',
    event_sequence: 'bigint',
    webhook_position: 'bigint',
  },
} as const;

/** How a value goes into JSON, by its type in the table; bytes as PostgreSQL's `\x…`. */
type Values = {
  uuid: string | null;
  text: string | null;
  bytea: string | null;
  bigint: number | null;
  boolean: boolean;
  timestamptz: Date;
  jsonb: unknown;
};
type Columns = typeof COLUMNS;
type RowOf<T extends keyof Columns> = {
  readonly [C in keyof Columns[T]]: Columns[T][C] extends keyof Values ? Values[Columns[T][C]] : never;
};

export type DeliveryRow = RowOf<'webhook_delivery'>;
/** Where an account's log, feed and deliveries end from now on; null leaves an end where it is. */
export type HeadRow = RowOf<'account'>;

export type Rows = {
  readonly audit: readonly (RowOf<'audit_entry'> & { readonly id: string })[];
  readonly events: readonly (RowOf<'event'> & { readonly id: string })[];
  readonly deliveries: readonly DeliveryRow[];
  readonly mails: readonly RowOf<'email'>[];
  readonly heads: readonly HeadRow[];
};

export const NO_ROWS: Rows = { audit: [], events: [], deliveries: [], mails: [], heads: [] };

/**
 * Writes all that one or several passes lead to, and makes the endpoints of new deliveries due. The caller has
 * locked the accounts and looked up what is known. A place or a key that is taken nevertheless refuses the whole:
 * either the lock was not held, or another account tells of the same fact at this moment, and the next look-up
 * sees it. Only a mail has no place that could be wrong, so one that is known by then is left out. Workers hear of
 * mails and endpoints that are due when this has committed.
 */
export const WRITE: Statement = {
  name: 'write-facts',
  text: `
    with audit as (${insert('audit_entry', 1)}),
    events as (${insert('event', 2)}),
    deliveries as (${insert('webhook_delivery', 3)}),
    endpoints as (
      select e.id, n.at
        from webhook_endpoint e
        join (select endpoint_id as id, min(next_attempt_at) as at
                from ${rowsOf('webhook_delivery', 3)} group by 1) n using (id)
       order by e.id for no key update of e),
    due as (
      update webhook_endpoint e set next_due_at = least(e.next_due_at, n.at) from endpoints n where e.id = n.id
      returning e.id),
    heads as (
      update account a
         set audit_position = coalesce(r.audit_position, a.audit_position),
             audit_hash = coalesce(r.audit_hash, a.audit_hash),
             event_sequence = coalesce(r.event_sequence, a.event_sequence),
             webhook_position = coalesce(r.webhook_position, a.webhook_position)
        from ${rowsOf('account', 5)} where a.id = r.id),
    mails as (${insert('email', 4)} on conflict (natural_key) do nothing returning id)
    select id, pg_notify('${CHANNEL}', '${'email' satisfies Kind}') from mails
    union all
    select null, pg_notify('${CHANNEL}', '${'endpoint' satisfies Kind}') from due`,
};

/** The part of a statement that writes rows given as JSON. */
export function insert(table: keyof Columns, parameter: number): string {
  const names = Object.keys(COLUMNS[table]).join(', ');
  return `insert into ${table} (${names}) select ${names} from ${rowsOf(table, parameter)}`;
}

function rowsOf(table: keyof Columns, parameter: number): string {
  const columns = Object.entries(COLUMNS[table]).map(([name, type]) => `${name} ${type}`);
  return `jsonb_to_recordset($${parameter}::jsonb) as r (${columns.join(', ')})`;
}

/** Writes rows, each at its place. Answers the ids of the mails that are new. */
export async function writeRows(tx: Tx, rows: Rows): Promise<readonly string[]> {
  const values = [rows.audit, rows.events, rows.deliveries, rows.mails, rows.heads];
  const written = await run<{ id: string | null }>(
    tx,
    WRITE,
    values.map((value) => JSON.stringify(value)),
  );
  return written.flatMap(({ id }) => id ?? []);
}

/** A delivery that is to be sent at once. */
export function deliveryRow({ at, ...given }: NewDelivery): DeliveryRow {
  return {
    id: given.id ?? uuidv7(at),
    account_id: given.accountId,
    endpoint_id: given.endpointId,
    position: given.position,
    event_id: given.eventId,
    event_type: given.eventType,
    state: 'pending',
    replay_of: given.replayOf ?? null,
    next_attempt_at: at,
    created_at: at,
  };
}

type NewDelivery = {
  readonly id?: string;
  readonly accountId: string;
  readonly endpointId: string;
  readonly position: number;
  readonly eventId: string;
  readonly eventType: string;
  readonly replayOf?: string;
  readonly at: Date;
};

/** Bytes as PostgreSQL reads them. */
export function textOf(bytes: Buffer): string {
  return `\\x${bytes.toString('hex')}`;
}

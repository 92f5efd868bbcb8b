import { byteaArray } from '../../database/bytea-array.ts';
import type { Database } from '../../database/connection.ts';
import { CHANNEL } from '../../database/due.ts';
import type { StripeEvent } from '../../database/entities/journal.ts';
import { groupCommit } from '../../database/group-commit.ts';

/** An event as it is stored before it is acknowledged. */
export type NewEvent = Pick<StripeEvent, 'id' | 'type' | 'livemode' | 'createdAt' | 'raw' | 'receivedAt'> & {
  readonly objectId: string | null;
  readonly customerId: string | null;
  readonly apiVersion: string | null;
  /** Why it is not to be looked at; null where it is. */
  readonly ignoredBecause: string | null;
  /** The account that we once wrote onto the object: a uuid, null for none, and `unknown` for what is no account. */
  readonly names: string | null | 'unknown';
};

/** Stores an event that is not here yet, with what makes its account due, in one commit; false for one that was. */
export type EventStore = (event: NewEvent) => Promise<boolean>;

/** Two are enough to have one on its way while the other is written to the disk. */
const AT_ONCE = 2;
const MOST = 100;

export function createEventStore(db: Pick<Database, 'pool'>): EventStore {
  return groupCommit({ atOnce: AT_ONCE, most: MOST, write: (events) => insertEvents(db, events) });
}

/**
 * Inserts events in one statement, and answers for each whether it is new. The account is the one that has the
 * customer, or had it until Stripe deleted it, and it becomes due; an event whose customer is nobody's, or that names
 * another account, is due itself, for whoever finds out. Workers hear of both at the commit. Rows are written in the
 * order of their ids and accounts in that of theirs, so that two groups never wait for each other.
 */
async function insertEvents(
  { pool }: Pick<Database, 'pool'>,
  events: readonly NewEvent[],
): Promise<boolean[]> {
  const { rows } = await pool.query<{ id: string }>({
    name: 'insert-stripe-events',
    text: INSERT,
    values: [
      events.map(({ id }) => id),
      events.map(({ type }) => type),
      events.map(({ objectId }) => objectId),
      events.map(({ customerId }) => customerId),
      events.map(({ livemode }) => livemode),
      events.map(({ apiVersion }) => apiVersion),
      events.map(({ createdAt }) => createdAt),
      byteaArray(events.map(({ raw }) => raw)),
      events.map(({ ignoredBecause }) => ignoredBecause),
      events.map(({ receivedAt }) => receivedAt),
      events.map(({ names }) => (names === 'unknown' ? null : names)),
      events.map(({ names }) => names !== 'unknown'),
    ],
  });
  const fresh = new Set(rows.map(({ id }) => id));
  // The same event twice in one group is new once.
  return events.map(({ id }) => fresh.delete(id));
}

/**
 * For a test to compare with the table. What comes in stands apart: where the planner sees it, it plans anew for each
 * event that comes alone, which takes as long as to insert it.
 */
export const INSERT = `with given as materialized (
  select $1::text[] as ids, $2::text[] as types, $3::text[] as objects, $4::text[] as customers,
         $5::boolean[] as livemodes, $6::text[] as versions, $7::timestamptz[] as created, $8::bytea[] as raws,
         $9::text[] as reasons, $10::timestamptz[] as received, $11::uuid[] as names, $12::boolean[] as nameable),
incoming as materialized (
  select e.*, case when reason is null then 'received' else 'ignored' end as state,
         coalesce((select a.id from account a where a.stripe_customer_id = customer_id),
                  (select f.account_id from former_stripe_customer f where f.stripe_customer_id = customer_id)) as owner
    from given, unnest(ids, types, objects, customers, livemodes, versions, created, raws, reasons, received,
                       given.names, given.nameable)
      as e (id, type, object_id, customer_id, livemode, api_version, created_at, raw, reason, received_at, names, nameable)),
owned as (
  select *, case when state = 'received' and nameable and (names is null or names = owner) then owner end as account_id
    from incoming),
inserted as (
  insert into stripe_event (id, account_id, type, object_id, customer_id, livemode, api_version, created_at, raw, state,
                            attempts, error, received_at, processed_at, due_at)
  select id, account_id, type, object_id, customer_id, livemode, api_version, created_at, raw, state,
         0, reason, received_at, case when state = 'ignored' then received_at end,
         case when state = 'received' and account_id is null then now() end
    from owned order by id
  on conflict (id) do nothing returning id, account_id, state),
raised as (
  insert into account_sync (account_id, wanted, due_at)
  select account_id, 1, now() from inserted where account_id is not null group by account_id order by account_id
  on conflict (account_id) do update
    set wanted = account_sync.wanted + 1, due_at = least(account_sync.due_at, now())),
told as (
  select pg_notify('${CHANNEL}', kind) from (
    select distinct case when account_id is null then 'stripe_event' else 'account' end as kind
      from inserted where state = 'received') kinds)
select id, (select count(*) from told) as told from inserted`;

import type { Database } from '../database/connection.ts';
import { LEASE_MS } from '../database/lease.ts';
import { uuidv7 } from '../database/uuid.ts';

/** What a mail's row says when it is leased. */
export type DueMail = {
  readonly id: string;
  readonly template: string;
  readonly to: string;
  readonly data: unknown;
  readonly isPending: boolean;
  readonly attempts: number;
  readonly createdAt: Date;
};

/** Mails that go out in one request, in the order of their ids; one of them, or up to a hundred. */
export type Batch = {
  readonly lease: string;
  readonly mails: readonly DueMail[];
  /** What the provider knows them by together; null where that is still to be said. */
  readonly id: string | null;
  /** When they may have gone out for the first time; null while that is certain not to have happened. */
  readonly firstAttemptAt: Date | null;
};

/** As many as Resend takes in one request. */
export const MOST_IN_BATCH = 100;

type Row = Omit<DueMail, 'createdAt'> & {
  batch: string | null;
  createdMs: number;
  triedMs: number | null;
};

/** What has no batch and has been tried was sent by itself, by a version before this one. */
const ALONE = (row: string) => `(${row}.alone or ${row}.first_attempt_at is not null)`;
const FREE = (row: string) => `(${row}.leased_until is null or ${row}.leased_until <= now())`;

/**
 * What was or may have been sent together is leased together, by its first mail; what has no batch is leased with
 * others like it. A mail that is no longer to be sent and still due, as a version before this one leaves it, is not
 * due any more. Exported for the test of its plan.
 */
export const CLAIM = `with head as (
  select e.id, e.batch_id, ${ALONE('e')} as alone from email e
   where e.due_at <= now() and ${FREE('e')} and (e.batch_id is null or not exists (
     select from email l where l.batch_id = e.batch_id and l.state = 'pending' and l.id < e.id))
   order by e.due_at limit 1 for no key update skip locked),
mates as (
  select e.id from email e join head h on e.batch_id = h.batch_id and e.id <> h.id
   order by e.id for no key update of e),
loose as (
  select e.id from email e, head h
   where h.batch_id is null and not h.alone and e.batch_id is null and not ${ALONE('e')} and e.id <> h.id
     and e.due_at <= now() and ${FREE('e')}
   order by e.due_at limit ${MOST_IN_BATCH - 1} for no key update of e skip locked),
claimed as (
  select id from head union all select id from mates union all select id from loose)
update email e set lease = $1, leased_until = now() + ${LEASE_MS} * interval '1 millisecond',
  due_at = case when e.state = 'pending' then e.due_at end
  from claimed where e.id = claimed.id
returning e.id::text, e.template, e.to_address as "to", e.data::text as data, e.state = 'pending' as "isPending",
  e.attempts, coalesce(e.batch_id, case when ${ALONE('e')} then e.id end)::text as batch,
  (extract(epoch from e.created_at) * 1000)::float8 as "createdMs",
  (extract(epoch from e.first_attempt_at) * 1000)::float8 as "triedMs"`;

/**
 * Leases the mails that have been due longest: a batch of an earlier attempt whole, exactly as it was, or up to a
 * hundred that have never been tried. Null where nothing is due. Mails that others lock or lease are passed over.
 */
export async function claimBatch({ pool }: Pick<Database, 'pool'>): Promise<Batch | null> {
  const lease = uuidv7(new Date());
  const { rows } = await pool.query<Row>({ name: 'claim-mails', text: CLAIM, values: [lease] });
  if (rows.length === 0) return null;
  const tried = rows.flatMap(({ triedMs }) => (triedMs === null ? [] : [triedMs]));
  const mails = rows
    .map(({ batch: _batch, createdMs, triedMs: _triedMs, data, ...mail }) => ({
      ...mail,
      data: typeof data === 'string' ? JSON.parse(data) : data,
      createdAt: new Date(createdMs),
    }))
    .sort((one, other) => (one.id < other.id ? -1 : 1));
  return {
    lease,
    mails,
    id: rows[0]?.batch ?? null,
    firstAttemptAt: tried.length > 0 ? new Date(Math.min(...tried)) : null,
  };
}

// All of them or none: a batch of which somebody else has a part by now is not ours to send.
const BEGIN = `with mine as (
  select id from email where id = any($2::uuid[]) and lease = $1 order by id for no key update)
update email e set batch_id = $3, attempts = e.attempts + 1, first_attempt_at = coalesce(e.first_attempt_at, $4)
  from mine where e.id = mine.id and (select count(*) from mine) = cardinality($2::uuid[])`;

/**
 * Writes down, before they do, that these mails may go out from now on, and as which batch. False, and nothing
 * written, where the lease was lost.
 */
export async function beginBatch(
  { pool }: Pick<Database, 'pool'>,
  { lease, ids, batchId, now }: { lease: string; ids: readonly string[]; batchId: string; now: Date },
): Promise<boolean> {
  const values = [lease, ids, batchId, now];
  const { rowCount } = await pool.query({ name: 'begin-mails', text: BEGIN, values });
  return rowCount === ids.length;
}

/** What became of one mail. */
export type Settled = {
  readonly id: string;
  readonly state: 'pending' | 'sent' | 'parked' | 'not_configured';
  readonly providerId?: string;
  readonly error?: string;
  /** How many attempts we know of; more mean that a version before this one is sending it too. */
  readonly attempts: number;
  /** Whether it is certain that it has not gone out; then it is free for another batch, or bound to the one named. */
  readonly isUnsent: boolean;
  readonly batchId?: string;
  /** How long until it is due again; left out where it is not to be sent any more. */
  readonly waitMs?: number;
};

// Cut off, because a moment that is rounded up has not come yet for whoever looks at once.
const SETTLE = `with told as (
  select * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bool[], $8::uuid[], $9::float8[])
    as t (id, state, provider_id, error, attempts, unsent, batch_id, wait_ms)),
mine as (
  select e.id from email e join told on told.id = e.id where e.lease = $1 and e.state = 'pending'
   order by e.id for no key update of e)
update email e set state = told.state, provider_id = told.provider_id, error = told.error,
  sent_at = case when told.state = 'sent' then $10::timestamptz end,
  first_attempt_at = case when told.unsent and e.attempts = told.attempts then null else e.first_attempt_at end,
  batch_id = case when told.unsent and e.attempts = told.attempts then told.batch_id else e.batch_id end,
  due_at = date_trunc('milliseconds', now()) + told.wait_ms * interval '1 millisecond', lease = null, leased_until = null
  from told join mine on mine.id = told.id where e.id = told.id
returning e.id::text`;

/** Writes what became of mails, and gives them back; answers whose lease was still this one. */
export async function settleMails(
  { pool }: Pick<Database, 'pool'>,
  lease: string,
  settled: readonly Settled[],
  now: Date,
): Promise<ReadonlySet<string>> {
  const column = <T>(of: (mail: Settled) => T) => settled.map(of);
  const values = [
    lease,
    column(({ id }) => id),
    column(({ state }) => state),
    column(({ providerId }) => providerId ?? null),
    column(({ error }) => error ?? null),
    column(({ attempts }) => attempts),
    column(({ isUnsent }) => isUnsent),
    column(({ batchId }) => batchId ?? null),
    column(({ waitMs }) => waitMs ?? null),
    now,
  ];
  const { rows } = await pool.query<{ id: string }>({ name: 'settle-mails', text: SETTLE, values });
  return new Set(rows.map(({ id }) => id));
}

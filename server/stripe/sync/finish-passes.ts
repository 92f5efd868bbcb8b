import type { Database, Tx } from '../../database/connection.ts';
import { CHANNEL, type Kind } from '../../database/due.ts';
import { run, runAlone, type Statement } from '../../database/statement.ts';
import { COLUMNS, type NewRow } from './subscription/columns.ts';

/** The end of a pass over an account, under its lease. */
export type End = {
  readonly accountId: string;
  readonly lease: string;
  /** What was wanted of the account before anything was read: that is done. */
  readonly wanted: string;
  /** Why something has to be tried again after a pause; null where nothing has. */
  readonly failed: string | null;
};

/** What is left of one or several passes when what follows from them has been written. */
export type Last = {
  /** The subscriptions that differ from the rows we hold. */
  readonly rows: readonly NewRow[];
  /** The ids of the events that are done, and since when. */
  readonly done: readonly string[];
  readonly at: Date;
  readonly ends: readonly End[];
};

/** The pause before an account that failed is due again: 2 s, doubled each time, up to 15 minutes. */
export const BACK_OFF = "least(900, 2 * power(2, least(attempts, 10))) * interval '1 second'";

const NAMES = Object.keys(COLUMNS);
const TYPED = Object.entries(COLUMNS).map(([name, type]) => `${name} ${type}`);
const CHANGED = NAMES.filter((name) => name !== 'id').map((name) => `${name} = excluded.${name}`);

/**
 * Writes rows, marks events as done and lets go of the accounts, in this order, which is that of our locks; accounts
 * in the order of their ids, as whoever stores events locks several of them too. An account is due again at once
 * where more was heard of meanwhile, of which workers hear at the commit, or after a pause where something failed.
 * It answers the accounts of which the lease was still as given, by the rows as they are when they are locked, so
 * whoever misses one of its own has lost it, and must write nothing of it.
 *
 * What is asked for stands apart, so that PostgreSQL makes one plan for all calls, by the indexes.
 */
export const FINISH: Statement = {
  name: 'finish-passes',
  text: `with asked as materialized (
  select $2::text[] as events, $4::uuid[] as accounts, $5::uuid[] as leases, $6::bigint[] as wants, $7::text[] as reasons),
rows as (
  insert into subscription (${NAMES.join(', ')}) select ${NAMES.join(', ')}
    from jsonb_to_recordset($1::jsonb) as r (${TYPED.join(', ')})
  on conflict (id) do update set ${CHANGED.join(', ')} returning id),
settled as (
  update stripe_event set state = 'done', error = null, processed_at = $3::timestamptz
    from asked where id = any (events) returning id),
mine as (
  select y.account_id, array_position(accounts, y.account_id) as place from account_sync y, asked
   where y.account_id = any (accounts) and y.lease = leases[array_position(accounts, y.account_id)]
     and (select count(*) from rows) + (select count(*) from settled) >= 0
   order by y.account_id for no key update of y),
finished as (
  update account_sync y set done = greatest(y.done, wants[place]), lease = null, leased_until = null,
      attempts = case when reasons[place] is null then 0 else attempts + 1 end, reason = reasons[place],
      due_at = case when wanted > wants[place] then now()
                    when reasons[place] is null then null else now() + ${BACK_OFF} end
    from mine, asked where y.account_id = mine.account_id
  returning y.account_id, wanted > wants[place] as again)
select account_id, case when again then pg_notify('${CHANNEL}', '${'account' satisfies Kind}') end as told from finished`,
};

const valuesOf = ({ rows, done, at, ends }: Last): unknown[] => [
  JSON.stringify(rows),
  done,
  at,
  ends.map(({ accountId }) => accountId),
  ends.map(({ lease }) => lease),
  ends.map(({ wanted }) => wanted),
  ends.map(({ failed }) => failed),
];

type Finished = { account_id: string };

/** Does so in the caller's transaction, which has locked the accounts; the answer holds once it has committed. */
export async function finishPasses(tx: Tx, last: Last): Promise<ReadonlySet<string>> {
  const finished = await run<Finished>(tx, FINISH, valuesOf(last));
  return new Set(finished.map(({ account_id }) => account_id));
}

/** The same where nothing but the end is left to be written; false where the lease is lost. */
export async function finishAlone(db: Pick<Database, 'pool'>, end: End): Promise<boolean> {
  const last = { rows: [], done: [], at: new Date(0), ends: [end] };
  return (await runAlone<Finished>(db, FINISH, valuesOf(last))).length === 1;
}

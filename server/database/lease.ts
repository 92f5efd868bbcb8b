import type { Database, Tx } from './connection.ts';
import { uuidv7 } from './uuid.ts';

/*
 * Rows that wait for work are the queue. Each says when it is due, who works on it and until when, all by the clock
 * of the database, which is one for all processes. Whoever works on a row names it again every second; when that
 * stops, as after a kill, the row is free again for whoever looks next. To write what came of the work, the row is
 * locked where the lease is still one's own: who was too slow finds that it is not, and writes nothing.
 */

/** The tables whose rows are taken this way, and what their rows are named by. */
const KEYS = { account_sync: 'account_id', stripe_event: 'id', email: 'id' } as const;
export type Leased = keyof typeof KEYS;

/** Rows that are this process's to work on for as long as it renews them. One id for each claim. */
export type Claim = { readonly lease: string; readonly keys: readonly string[] };

type Pool = Pick<Database, 'pool'>;

/** How long rows stay with whoever shows no sign of life. */
export const LEASE_MS = 2_500;
/** How often a sign of life is given. */
export const RENEW_MS = 1_000;

const UNTIL = `now() + ${LEASE_MS} * interval '1 millisecond'`;
const FREE = '(leased_until is null or leased_until <= now())';

/** What each statement is prepared as, a connection at a time. */
const named = (what: string, table: Leased, text: string, values: readonly unknown[]) => ({
  name: `${what}-${table}`,
  text,
  values: [...values],
});

/** Leases up to `limit` rows that are due, those that have waited longest first; rows locked by others are passed over. */
export async function claimDue({ pool }: Pool, table: Leased, limit: number): Promise<Claim> {
  const key = KEYS[table];
  const lease = uuidv7(new Date());
  const text = `with due as (
  select ${key} from ${table} where due_at <= now() and ${FREE} order by due_at limit $2 for no key update skip locked)
update ${table} t set lease = $1, leased_until = ${UNTIL} from due where t.${key} = due.${key}
returning t.${key}::text as key`;
  const { rows } = await pool.query<{ key: string }>(named('claim', table, text, [lease, limit]));
  return { lease, keys: rows.map((row) => row.key) };
}

/** Leases one row, due or not; null where somebody else has it, or there is none. */
export async function claimOne({ pool }: Pool, table: Leased, key: string): Promise<Claim | null> {
  const lease = uuidv7(new Date());
  const text = `update ${table} set lease = $1, leased_until = ${UNTIL} where ${KEYS[table]} = $2 and ${FREE}`;
  const { rowCount } = await pool.query(named('claim-one', table, text, [lease, key]));
  return rowCount === 1 ? { lease, keys: [key] } : null;
}

/** Rows by the leases under which they are worked on. */
export type Held = { readonly lease: string; readonly key: string };

/**
 * Gives a sign of life for each of the rows named, and answers those that somebody else has by now. A row that is
 * locked at the moment is passed over: nobody can take it meanwhile, and it is named again in a second.
 */
export async function renew<H extends Held>(
  { pool }: Pool,
  table: Leased,
  held: readonly H[],
): Promise<readonly H[]> {
  const type = table === 'stripe_event' ? 'text' : 'uuid';
  const text = `with mine as (
  select * from unnest($1::${type}[], $2::uuid[]) as m (key, lease)),
ours as (
  select t.${KEYS[table]} as key from ${table} t join mine on t.${KEYS[table]} = mine.key and t.lease = mine.lease
   order by 1 for no key update of t skip locked),
renewed as (
  update ${table} t set leased_until = ${UNTIL} from ours where t.${KEYS[table]} = ours.key)
select mine.key::text as key, mine.lease from mine
  left join ${table} t on t.${KEYS[table]} = mine.key where t.lease is distinct from mine.lease`;
  const values = [held.map(({ key }) => key), held.map(({ lease }) => lease)];
  const { rows } = await pool.query<Held>(named('renew', table, text, values));
  const lost = new Set(rows.map(({ key, lease }) => `${key} ${lease}`));
  return held.filter(({ key, lease }) => lost.has(`${key} ${lease}`));
}

/** Gives rows back untried or failed, to be due after a pause. What somebody else has by now stays as it is. */
export async function giveBack(
  { pool }: Pool,
  table: Leased,
  { lease, keys }: Claim,
  pauseMs: number,
): Promise<void> {
  const type = table === 'stripe_event' ? 'text' : 'uuid';
  const text = `with mine as (
  select ${KEYS[table]} as key from ${table} where ${KEYS[table]} = any($1::${type}[]) and lease = $2
   order by 1 for no key update)
update ${table} t set lease = null, leased_until = null, due_at = now() + $3 * interval '1 millisecond'
  from mine where t.${KEYS[table]} = mine.key`;
  await pool.query(named('give-back', table, text, [keys, lease, pauseMs]));
}

/**
 * Makes accounts due in the caller's transaction, whatever pause they were in; a pass that is under way for one of
 * them is followed by another. Rows are locked in the order of ids, as wherever several of them are.
 */
export async function raiseWanted(tx: Tx, accountIds: readonly string[]): Promise<void> {
  if (accountIds.length === 0) return;
  const values = accountIds.map(() => '(?::uuid)').join(', ');
  await tx.execute(
    `insert into account_sync (account_id, wanted, due_at)
select id, 1, now() from (values ${values}) as v (id) group by id order by id
on conflict (account_id) do update set wanted = account_sync.wanted + 1, due_at = least(account_sync.due_at, now())`,
    [...accountIds],
  );
}

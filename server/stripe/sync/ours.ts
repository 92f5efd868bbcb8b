import type { Pool } from 'pg';
import type { Database } from '../../database/connection.ts';
import type { Account } from '../../database/entities/account.ts';
import type { StripeEvent } from '../../database/entities/journal.ts';
import { groupCommit } from '../../database/group-commit.ts';
import { runAlone, type Statement } from '../../database/statement.ts';
import { type Held, heldOf, type JsonRow } from './subscription/columns.ts';

/** An event of Stripe that waits to be processed. */
export type Waiting = Pick<StripeEvent, 'id' | 'type' | 'objectId' | 'createdAt'>;

/** What we hold of an account when a pass begins. */
export type Ours = {
  readonly account: Pick<Account, 'id' | 'stripeCustomerId' | 'stripeEmail' | 'createdAt'>;
  readonly held: Held | null;
  /** What has failed before comes last, so that it does not eat up the time of the others. */
  readonly events: readonly Waiting[];
};

type Row = {
  id: string;
  wanted: string;
  stripe_customer_id: string | null;
  stripe_email: string | null;
  created_ms: number;
  held: JsonRow | null;
  events: { id: string; type: string; object_id: string | null; created_ms: number }[];
};

/**
 * One statement, so that all of it is as of one moment: what is heard of after it is wanted beyond `wanted`. Its
 * columns are those of the entities; a test compares them.
 */
export const READ_OURS: Statement = {
  name: 'read-ours',
  text: `with asked as materialized (select $1::uuid[] as accounts, $2::text[] as chosen)
select a.id, y.wanted, a.stripe_customer_id, a.stripe_email, (extract(epoch from a.created_at) * 1000)::float8 as created_ms,
  (select to_jsonb(s) from subscription s where s.account_id = a.id) as held,
  coalesce((select jsonb_agg(jsonb_build_object('id', e.id, 'type', e.type, 'object_id', e.object_id,
      'created_ms', extract(epoch from e.created_at) * 1000) order by e.attempts, e.created_at, e.id)
    from stripe_event e where e.account_id = a.id and e.state = 'received' and (chosen is null or e.id = any (chosen))),
    '[]') as events
from account a join account_sync y on y.account_id = a.id, asked where a.id = any (accounts)`,
};

export type OursAndWanted = Ours & { readonly wanted: string };

/**
 * Our side as it stands, with `wanted`, and of the events that wait all or only these. What is asked for while others
 * are being read is read together. Throws where there is no such account.
 */
export async function readOurs(
  db: Pick<Database, 'pool'>,
  accountId: string,
  only: readonly string[] | null,
): Promise<OursAndWanted> {
  const ours = only === null ? await lineOf(db)(accountId) : (await readAll(db, [accountId], only))[0];
  if (!ours) throw new Error(`Account ${accountId} is not in the database`);
  return ours;
}

/** As many as are looked at side by side. */
const MOST = 32;

const lines = new WeakMap<Pool, (accountId: string) => Promise<OursAndWanted | null>>();

function lineOf(db: Pick<Database, 'pool'>): (accountId: string) => Promise<OursAndWanted | null> {
  const line =
    lines.get(db.pool) ??
    groupCommit({ atOnce: 2, most: MOST, write: (accountIds) => readAll(db, accountIds, null) });
  lines.set(db.pool, line);
  return line;
}

async function readAll(
  db: Pick<Database, 'pool'>,
  accountIds: readonly string[],
  only: readonly string[] | null,
): Promise<(OursAndWanted | null)[]> {
  const rows = await runAlone<Row>(db, READ_OURS, [accountIds, only]);
  const read = new Map(rows.map((row) => [row.id, oursOf(row)]));
  return accountIds.map((id) => read.get(id) ?? null);
}

function oursOf({
  id,
  wanted,
  stripe_customer_id: stripeCustomerId,
  stripe_email: stripeEmail,
  ...row
}: Row): OursAndWanted {
  return {
    wanted,
    account: { id, stripeCustomerId, stripeEmail, createdAt: new Date(row.created_ms) },
    held: row.held && heldOf(row.held),
    events: row.events.map(({ id, type, object_id: objectId, created_ms: createdMs }) => ({
      ...{ id, type, objectId, createdAt: new Date(createdMs) },
    })),
  };
}

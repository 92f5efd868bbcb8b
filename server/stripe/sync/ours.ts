import type { Database } from '../../database/connection.ts';
import type { Account } from '../../database/entities/account.ts';
import type { StripeEvent } from '../../database/entities/journal.ts';
import { type Held, heldOf, type JsonRow } from './subscription/columns.ts';

/** An event of Stripe that waits to be processed. */
export type Waiting = Pick<StripeEvent, 'id' | 'type' | 'objectId' | 'createdAt'>;

/** What we hold of an account when a pass begins. */
export type Ours = {
  readonly account: Pick<Account, 'id' | 'stripeCustomerId' | 'createdAt'>;
  readonly held: Held | null;
  /** What has failed before comes last, so that it does not eat up the time of the others. */
  readonly events: readonly Waiting[];
};

type Row = {
  wanted: string;
  stripe_customer_id: string | null;
  created_ms: number;
  held: JsonRow | null;
  events: { id: string; type: string; object_id: string | null; created_ms: number }[];
};

/**
 * One statement, so that all of it is as of one moment: what is heard of after it is wanted beyond `wanted`. Its
 * columns are those of the entities; a test compares them.
 */
const READ_OURS = `select y.wanted, a.stripe_customer_id, (extract(epoch from a.created_at) * 1000)::float8 as created_ms,
  (select to_jsonb(s) from subscription s where s.account_id = a.id) as held,
  coalesce((select jsonb_agg(jsonb_build_object('id', e.id, 'type', e.type, 'object_id', e.object_id,
      'created_ms', extract(epoch from e.created_at) * 1000) order by e.attempts, e.created_at, e.id)
    from stripe_event e where e.account_id = a.id and e.state = 'received' and ($2::text[] is null or e.id = any($2))),
    '[]') as events
from account a join account_sync y on y.account_id = a.id where a.id = $1`;

/** Our side as it stands, with `wanted`, and of the events that wait all or only these. Throws where there is no such account. */
export async function readOurs(
  { pool }: Pick<Database, 'pool'>,
  accountId: string,
  only: readonly string[] | null,
): Promise<Ours & { wanted: string }> {
  const values = [accountId, only];
  const { rows } = await pool.query<Row>({ name: 'read-ours', text: READ_OURS, values });
  const [row] = rows;
  if (!row) throw new Error(`Account ${accountId} is not in the database`);
  return {
    wanted: row.wanted,
    account: {
      ...{ id: accountId, stripeCustomerId: row.stripe_customer_id, createdAt: new Date(row.created_ms) },
    },
    held: row.held && heldOf(row.held),
    events: row.events.map(({ id, type, object_id: objectId, created_ms: createdMs }) => ({
      ...{ id, type, objectId, createdAt: new Date(createdMs) },
    })),
  };
}

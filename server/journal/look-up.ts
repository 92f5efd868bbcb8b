import type { Tx } from '../database/connection.ts';
import { run, type Statement } from '../database/statement.ts';
import { type Draft, keyOf, type NoticeSwitch } from './drafts.ts';

/** Where an account's audit log, feed and deliveries end, and who is to hear of what. */
export type Standing = {
  readonly auditPosition: number;
  readonly auditHash: Buffer | null;
  readonly eventSequence: number;
  readonly webhookPosition: number;
  /** Those that want one of the types asked for, in their order. */
  readonly endpoints: readonly { readonly id: string; readonly events: readonly string[] }[];
} & Readonly<Record<NoticeSwitch, boolean>>;

export type Known = {
  readonly accounts: ReadonlyMap<string, Standing>;
  /** The keys that have been written, by kind. */
  readonly keys: Readonly<Record<Draft['kind'], ReadonlySet<string>>>;
};

type Row = Standing & {
  readonly id: string;
  readonly auditKeys: readonly string[];
  readonly eventKeys: readonly string[];
  readonly mailKeys: readonly string[];
};

/**
 * One row for each account, with the keys that are known among all accounts. It takes no lock: its answer holds
 * until the commit because the caller has locked the accounts before, by statements of their own, so that this
 * one sees what those who had the lock until then have written.
 *
 * What is asked for stands apart: where the planner sees it, it plans anew for each call, which takes longer than to
 * answer.
 */
export const LOOK_UP: Statement = {
  name: 'look-up-facts',
  text: `
    with asked as materialized (
      select $1::uuid[] as accounts, $2::text[] as audit, $3::text[] as events, $4::text[] as mails, $5::text[] as types)
    select a.id, a.audit_position::float8 as "auditPosition", a.audit_hash as "auditHash",
           a.event_sequence::float8 as "eventSequence", a.webhook_position::float8 as "webhookPosition",
           a.receipt_emails as "receiptEmails", a.tier_change_emails as "tierChangeEmails",
           a.renewal_emails as "renewalEmails",
           case when (select cardinality(types) from asked) = 0 then '[]'::jsonb else (
             select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'events', e.events) order by e.position), '[]')
               from webhook_endpoint e
              where e.account_id = a.id and e.deleted_at is null
                and e.events && (select types from asked)) end as endpoints,
           array(select dedupe_key from audit_entry where ${isAsked('dedupe_key', 'audit')}) as "auditKeys",
           array(select dedupe_key from event where ${isAsked('dedupe_key', 'events')}) as "eventKeys",
           array(select natural_key from email where ${isAsked('natural_key', 'mails')}) as "mailKeys"
      from account a
     where ${isAsked('a.id', 'accounts', 'uuid')}`,
};

function isAsked(column: string, asked: string, type = 'text'): string {
  return `${column} = any ((select ${asked} from asked)::${type}[])`;
}

/** Looks up, for facts to be written, which are known already and where their accounts stand. */
export async function lookUp(tx: Tx, drafts: readonly Draft[]): Promise<Known> {
  const keysOf = (kind: Draft['kind']): string[] =>
    drafts.filter((draft) => draft.kind === kind).map((draft) => keyOf(draft));
  const types = drafts.flatMap((draft) => (draft.kind === 'event' ? [draft.type] : []));
  const rows = await run<Row>(tx, LOOK_UP, [
    [...new Set(drafts.map(({ accountId }) => accountId))],
    keysOf('audit'),
    keysOf('event'),
    keysOf('mail'),
    [...new Set(types)],
  ]);
  const [any] = rows;
  return {
    accounts: new Map(rows.map((row) => [row.id, row])),
    keys: {
      audit: new Set(any?.auditKeys),
      event: new Set(any?.eventKeys),
      mail: new Set(any?.mailKeys),
    },
  };
}

import type { AuditAction } from '../../shared/audit.ts';
import { tooBusy } from '../database/account-turns.ts';
import type { Database, Tx } from '../database/connection.ts';
import type { Account } from '../database/entities/account.ts';
import { holdAccount } from '../database/locks.ts';
import type { Statement } from '../database/statement.ts';
import type { AuditDraft } from '../journal/drafts.ts';
import { nextEntry } from '../journal/place.ts';
import { insert } from '../journal/rows.ts';
import { writeDown } from '../journal/write-down.ts';

/** Who did it: a customer by a key, this service by itself (whatever Stripe reports included), or an operator. */
export type Actor =
  | { readonly type: 'customer'; readonly accountId: string; readonly keyId: string }
  | { readonly type: 'system' }
  | { readonly type: 'staff' };

export type NewAuditEntry = {
  /** The uuid of the account. */
  accountId: string;
  action: AuditAction;
  /** As the wire shows it, such as `sub_…`. */
  targetResourceId: string | null;
  /** Plain JSON; the source event or request belongs in it. */
  payload: Readonly<Record<string, unknown>>;
  actor: Actor;
  /** Names the fact. A second entry with the same key is not written. */
  dedupeKey: string;
  now: Date;
};

/**
 * Writes one fact at the end of the account's audit log, in the caller's transaction, and returns whether it
 * was new. Locks the account's row, so that positions have no gaps and the chain has one end.
 */
export async function append(tx: Tx, entry: NewAuditEntry): Promise<boolean> {
  await holdAccount(tx, entry.accountId);
  return (await writeDown(tx, [auditDraft(entry)])).size > 0;
}

/** The same fact, to be written down with others. */
export function auditDraft({ actor, now, ...entry }: NewAuditEntry): AuditDraft {
  return {
    kind: 'audit',
    ...entry,
    actorType: actor.type,
    actorAccountId: actor.type === 'customer' ? actor.accountId : null,
    actorKeyId: actor.type === 'customer' ? actor.keyId : null,
    occurredAt: now,
  };
}

/** The place and the hash of the newest entry of an account's audit log. */
export type LogEnd = Readonly<Pick<Account, 'auditPosition' | 'auditHash'>>;

/** The columns that answer it, of an account's row. */
export const LOG_END = 'audit_position::float8 as "auditPosition", audit_hash as "auditHash"';

/**
 * A statement that does something and writes down that it was done, both or neither, in one round trip. It locks the
 * account's row, of which `ours` makes none where the thing cannot be done any more; the thing itself are more columns
 * to `set` of that row, and more `effects`, for as many rows as `stands` has. Its own parameters begin with the sixth.
 *
 * The entry has its place and hash already, so all of it happens only where the log still ends where it was thought to.
 */
export function appending(
  name: string,
  { ours, set = [], effects = [] }: { ours: string; set?: readonly string[]; effects?: readonly string[] },
): Statement {
  const text = `with mine as (
    select id, stripe_customer_id, stripe_customer_generation, audit_position, audit_hash
      from account where id = $1 for no key update),
  ${ours},
  stands as (select id from ours where audit_position = $2),
  fresh as (select id from stands where not exists (select from audit_entry where dedupe_key = $3)),
  entry as (${insert('audit_entry', 4)} where exists (select from fresh)),
  ${[
    ...effects,
    `moved as (
    update account a
       set ${[
         'audit_position = a.audit_position + (fresh.id is not null)::int',
         'audit_hash = case when fresh.id is null then a.audit_hash else $5 end',
         ...set,
       ].join(', ')}
      from stands left join fresh on true where a.id = stands.id)`,
  ].join(',\n  ')}
  select ${LOG_END}, exists (select from stands) as done, exists (select from ours) as possible from mine`;
  return { name, text };
}

/** How often others may write into the log between two tries. */
const MOST_TRIES = 10;

/**
 * Runs such a statement for an entry behind this end of the log, and again where the log ends elsewhere by now. False,
 * with nothing done, where it cannot be done any more. An entry that is known is not written again.
 */
export async function appendBy(
  db: Pick<Database, 'statementOn'>,
  statement: Statement,
  entry: NewAuditEntry,
  end: LogEnd,
  values: readonly unknown[],
): Promise<boolean> {
  const { accountId, dedupeKey } = entry;
  const draft = auditDraft(entry);
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const { row, auditHash } = nextEntry(draft, end);
    const placed = [accountId, end.auditPosition, dedupeKey, JSON.stringify([row]), auditHash];
    const [found] = await db.statementOn<LogEnd & { done: boolean; possible: boolean }>(
      accountId,
      statement,
      [...placed, ...values],
    );
    if (!found) throw new Error(`Account ${accountId} is not in the database`);
    if (found.done || !found.possible) return found.done;
    end = found;
  }
  throw tooBusy();
}

import type { Database } from '../../server/database/connection.ts';

/** The tables that one transaction has locked rows of, in the order in which it first did. */
export type Locked = readonly string[];

/**
 * Records what each transaction on this database locks from now on, by its statements as they go over the line:
 * rows that it changes, deletes or asks for by `for … update`. Rows that are passed over when locked (`skip locked`)
 * are waited for by nobody, and rows it inserts are its own. An account is recorded all the same: what comes after it
 * is behind its lock.
 */
export function recordLocks(db: Database): { transactions: Locked[] } {
  const transactions: Locked[] = [];
  const seen = new WeakSet<object>();
  const watch = (client: object): void => {
    if (seen.has(client)) return;
    seen.add(client);
    const query: unknown = Reflect.get(client, 'query');
    if (typeof query !== 'function') throw new Error('pg has no query');
    let current: string[] | null = null;
    Reflect.set(client, 'query', (...args: unknown[]): unknown => {
      const text = textOf(args[0]);
      if (/^\s*(begin|start transaction)/i.test(text)) current = [];
      else if (/^\s*(commit|rollback)/i.test(text)) {
        if (current) transactions.push(current);
        current = null;
      } else {
        const tables = tablesLockedBy(text);
        if (current === null && tables.length > 0) transactions.push([...new Set(tables)]);
        for (const table of tables) if (current && !current.includes(table)) current.push(table);
      }
      return Reflect.apply(query, client, args);
    });
  };
  db.pool.on('acquire', watch);
  return { transactions };
}

function textOf(query: unknown): string {
  if (typeof query === 'string') return query;
  const text: unknown = typeof query === 'object' && query !== null ? Reflect.get(query, 'text') : '';
  return typeof text === 'string' ? text : '';
}

/** In the order in which they stand, which is how we write the parts of a statement that lock one after the other. */
export function tablesLockedBy(statement: string): string[] {
  const text = statement.replaceAll('"', '').replaceAll(/\s+/g, ' ').toLowerCase();
  const found = [
    ...text.matchAll(/\bupdate (?!of |set |skip )(?:only )?(?:public\.)?([a-z_]+)/g),
    ...text.matchAll(/\bdelete from (?:public\.)?([a-z_]+)/g),
    ...text.matchAll(
      /\bfrom (?:public\.)?([a-z_]+)(?:(?!\bfrom\b).)*? for (?:no key )?update(?! of [a-z]+ skip| skip)/g,
    ),
    ...text.matchAll(
      /\bfrom (?:public\.)?(account)\b(?:(?!\bfrom\b).)*? for no key update of a skip locked/g,
    ),
  ];
  return found
    .sort((a, b) => a.index - b.index)
    .map(([, table = '']) => table)
    .filter((table) => TABLES.has(table));
}

const TABLES: ReadonlySet<string> = new Set([
  'account',
  'account_sync',
  'api_key',
  'audit_entry',
  'billing_event',
  'checkout_attempt',
  'credit_entry',
  'credit_reservation',
  'email',
  'idempotency_key',
  'price',
  'stripe_event',
  'subscription',
  'trial_pack',
  'webhook_delivery',
  'webhook_endpoint',
]);

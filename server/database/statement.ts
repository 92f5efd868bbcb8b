import type { PoolClient } from 'pg';
import type { Database, Tx } from './connection.ts';

/** A hot statement: PostgreSQL parses it once a connection and remembers how it goes about it, by its name. */
export type Statement = { readonly name: string; readonly text: string };

/** The connection of each open transaction. */
const connections = new WeakMap<Tx, PoolClient>();

/** For whoever opens transactions. */
export function noteConnection(tx: Tx, connection: PoolClient): void {
  connections.set(tx, connection);
}

/**
 * Runs a prepared statement in the caller's transaction, past the entity manager: what that has not flushed yet is
 * not seen, and what it remembers stays as it is. Values never become part of the text.
 */
export async function run<Row extends object>(
  tx: Tx,
  { name, text }: Statement,
  values: readonly unknown[],
): Promise<Row[]> {
  const connection = connections.get(tx);
  if (!connection) throw new Error(`${name} was run outside a transaction`);
  return (await connection.query<Row>({ name, text, values: [...values] })).rows;
}

/** The same as a transaction of its own. */
export async function runAlone<Row extends object>(
  { pool }: Pick<Database, 'pool'>,
  { name, text }: Statement,
  values: readonly unknown[],
): Promise<Row[]> {
  return (await pool.query<Row>({ name, text, values: [...values] })).rows;
}

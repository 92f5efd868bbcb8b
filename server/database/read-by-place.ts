import type { Connection, Pool, Submittable } from 'pg';
import type { Statement } from './statement.ts';

/** A row as PostgreSQL writes it: the text of each column, in the order of the statement. */
export type Fields = readonly (string | null)[];

/**
 * Runs a prepared statement and answers its rows by place; the caller knows their columns. pg's own query has them
 * described anew at each execution and builds objects by name and type, which of a read of one row takes 10 of 65 µs
 * of processor time. Throws as `pool.query` does, and as there the pool lets go of a connection on which one failed.
 * A statement that is run so may not be run by its name in another way: each way counts for itself what is prepared.
 */
export async function readByPlace(
  pool: Pick<Pool, 'query'>,
  statement: Statement,
  values: readonly (string | Buffer)[],
): Promise<readonly Fields[]> {
  const reading = new Reading(statement, values);
  // By its types pg answers the reading itself; what it does answer comes when the reading has ended.
  await pool.query(reading);
  return reading.rows;
}

/** Which statements each connection has prepared. */
const prepared = new WeakMap<Connection, Set<string>>();

/** What pg asks of a query of somebody else's making, as cursors and streams of rows are. */
class Reading implements Submittable {
  readonly rows: Fields[] = [];
  /** Set by pg before it submits; tells the pool and the caller that this has ended. */
  callback?: (error: Error | null, result?: Reading) => void;
  readonly #statement: Statement;
  readonly #values: (string | Buffer)[];

  constructor(statement: Statement, values: readonly (string | Buffer)[]) {
    this.#statement = statement;
    this.#values = [...values];
  }

  /** Sends all in one go: the statement, where this connection has not prepared it, its values, and the end. */
  submit(connection: Connection): void {
    const { name, text } = this.#statement;
    const { stream } = connection;
    stream.cork();
    if (!prepared.get(connection)?.has(name)) connection.parse({ name, text, types: [] }, true);
    connection.bind({ statement: name, values: this.#values }, true);
    connection.execute({}, true);
    connection.sync();
    stream.uncork();
  }

  handleDataRow({ fields }: { fields: Fields }): void {
    this.rows.push(fields);
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(connection: Connection): void {
    const names = prepared.get(connection);
    if (names) names.add(this.#statement.name);
    else prepared.set(connection, new Set([this.#statement.name]));
    this.callback?.(null, this);
  }

  handleError(error: Error): void {
    this.callback?.(error);
  }
}

import { Client } from 'pg';

/**
 * Everything the database holds, for comparison between runs that should have had the same effects: all rows of
 * all our tables, with ids that each run draws anew replaced, and without
 * what only counts tries. Columns of hashes are left out: they cover those ids.
 */
export async function effectsIn(databaseUrl: string, keep: readonly string[] = []): Promise<string[]> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const tables = await client.query<{ name: string }>(
      `select table_name as name from information_schema.tables
        where table_schema = 'public' and table_name not like 'mikro_orm%' order by 1`,
    );
    const effects: string[] = [];
    for (const { name } of tables.rows) {
      const { rows } = await client.query<{ row: Record<string, unknown> }>(
        `select to_jsonb(t) as row from "${name}" t`,
      );
      effects.push(...rows.map(({ row }) => `${name} ${written(row, keep)}`));
    }
    return effects.sort();
  } finally {
    await client.end();
  }
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const COUNTS_TRIES = new Set([
  ...['attempts', 'hash', 'prev_hash', 'audit_hash'],
  ...['wanted', 'done', 'lease', 'leased_until', 'batch_id'],
]);

function written(row: Record<string, unknown>, keep: readonly string[]): string {
  // When it is due is by the clock on the wall; whether it is, is the same in every run.
  const members = Object.entries(row)
    .filter(([column]) => !COUNTS_TRIES.has(column))
    .map(([column, value]) => [column, column === 'due_at' ? value !== null : value]);
  return JSON.stringify(Object.fromEntries(members)).replace(UUID, (uuid) =>
    keep.includes(uuid) ? uuid : 'an id',
  );
}

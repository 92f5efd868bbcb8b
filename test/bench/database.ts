import { Client } from 'pg';
import { connectDatabase } from '../../server/database/connection.ts';
import { startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { migrate } from '../../server/database/migrate.ts';

export type BenchPostgres = {
  /** A database of its own, migrated and empty, or without our tables too; answers its URL. */
  createDatabase(options?: { isBare?: boolean }): Promise<string>;
  close(): Promise<void>;
};

/** Starts a PostgreSQL for the benchmark alone. Commits reach the disk, as they do in production. */
export async function startPostgres(dataDir: string): Promise<BenchPostgres> {
  const start = () => startEmbeddedPostgres({ dataDir, log: console.error, durable: true });
  // All servers that are compared are there at once, each with a pool of its own.
  const first = await start();
  await withClient(first.url, (client) => client.query('alter system set max_connections = 400'));
  await first.close();
  const postgres = await start();
  const template = at(postgres.url, 'bench_template');
  let databases = 0;
  await withClient(postgres.url, (client) => client.query('create database bench_template'));
  const db = await connectDatabase({ url: template, poolMax: 2, applicationName: 'bench-setup' });
  await migrate(db).finally(() => db.close());
  return {
    async createDatabase({ isBare = false } = {}) {
      const name = `bench_${++databases}`;
      const from = isBare ? 'template1' : 'bench_template strategy file_copy';
      await withClient(postgres.url, (client) => client.query(`create database ${name} template ${from}`));
      return at(postgres.url, name);
    },
    close: () => postgres.close(),
  };
}

/** Connects, works, disconnects. */
export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The key of the account with this number, from 1, as `seedAccounts` made it. */
export function keyOf(account: number): string {
  return `ds_live_${String(account).padStart(43, '0')}`;
}

/**
 * Inserts so many accounts, each with a key. The first ones get the Stripe customers in `customers`, and have bought
 * nothing yet; the rest, or all where there are none, have a subscription, every tenth a trial pack, unless
 * `isRestEmpty`. Foreign keys are right by construction and not checked row by row.
 */
export async function seedAccounts(
  url: string,
  accounts: number,
  customers: readonly string[] = [],
  { isRestEmpty = false }: { isRestEmpty?: boolean } = {},
): Promise<void> {
  await withClient(url, async (client) => {
    await client.query('set session_replication_role = replica');
    await client.query(
      `insert into account (id, email, stripe_customer_id, created_at)
       select ${uuid('1')}, 'account-' || n || '@example.test', ($2::text[])[n], now()
       from generate_series(1, $1::int) n`,
      [accounts, customers],
    );
    await client.query(
      `insert into api_key (id, account_id, hash, prefix, scopes, name, created_at)
       select ${uuid('2')}, ${uuid('1')}, sha256(convert_to('ds_live_' || lpad(n::text, 43, '0'), 'UTF8')),
         'ds_live_0000', '{account_owner}', 'bench', now()
       from generate_series(1, $1::int) n`,
      [accounts],
    );
    if (!isRestEmpty) await seedPurchases(client, customers.length + 1, accounts);
    await client.query('analyze');
    // Now, so that it does not happen in the middle of what is measured.
    await client.query('checkpoint');
  });
}

async function seedPurchases(client: Client, from: number, to: number): Promise<void> {
  await client.query(
    `insert into subscription (id, account_id, stripe_subscription_id, tier, status, billing_period,
       current_period_start, current_period_end, cancel_at_period_end, version, entitled, updated_at)
     select ${uuid('3')}, ${uuid('1')}, 'sub_' || n, 'api_builder', 'active', 'monthly',
       now(), now() + interval '1 month', false, 1, true, now()
     from generate_series($1::int, $2::int) n`,
    [from, to],
  );
  await client.query(
    `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
       granted_seconds, remaining_seconds, version)
     select ${uuid('4')}, ${uuid('1')}, 'cs_' || n, 'pi_' || n, 'active', now(), now() + interval '14 days',
       59800, 40000, 1
     from generate_series($1::int, $2::int, 10) n`,
    [from, to],
  );
}

/** An id in the form of a uuid v7 that grows with `n`, as ids made over time do. */
const uuid = (kind: '1' | '2' | '3' | '4'): string =>
  `('0190' || lpad(to_hex(n), 8, '0') || '7${kind}008000' || lpad(to_hex(n), 12, '0'))::uuid`;

function at(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}

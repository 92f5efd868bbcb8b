import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import type { TestProject } from 'vitest/node';
import { connectDatabase } from '../../server/database/connection.ts';
import { startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { migrate } from '../../server/database/migrate.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** A database in which to create others; see `createTestDatabase`. */
    adminUrl: string;
    /** Every database of this run begins with it, so that all of them can be found at the end. */
    databasePrefix: string;
    /** The migrated database that tests get their own copies of. */
    templateDatabase: string;
  }
}

type Server = { adminUrl: string; close(): Promise<void> };

/** Gives a suite one PostgreSQL and one migrated template database, and removes all of it afterwards. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const server = await openServer(process.env['TEST_DATABASE_URL']);
  const databasePrefix = `driftstack_test_${randomBytes(6).toString('hex')}_`;
  const teardown = async () => {
    await dropDatabases(server.adminUrl, databasePrefix).finally(server.close);
  };
  try {
    const templateDatabase = `${databasePrefix}template`;
    await createTemplate(server.adminUrl, templateDatabase);
    project.provide('adminUrl', server.adminUrl);
    project.provide('databasePrefix', databasePrefix);
    project.provide('templateDatabase', templateDatabase);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
};

const openServer = async (given: string | undefined): Promise<Server> => {
  if (given !== undefined && given !== '') return { adminUrl: given, close: async () => {} };
  const dataDir = await mkdtemp(join(tmpdir(), 'driftstack-test-postgres-'));
  const remove = () => rm(dataDir, { recursive: true, force: true });
  try {
    const postgres = await startEmbeddedPostgres({ dataDir, log: console.error, durable: false });
    return { adminUrl: postgres.url, close: () => postgres.close().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
};

const createTemplate = async (adminUrl: string, name: string): Promise<void> => {
  await withClient(adminUrl, (client) => client.query(`create database ${name}`));
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  const db = await connectDatabase({ url: url.href, poolMax: 2, applicationName: 'driftstack-test-setup' });
  await migrate(db).finally(() => db.close());
  // A database that anyone is connected to cannot be copied.
  await withClient(adminUrl, (client) => client.query(`alter database ${name} allow_connections false`));
};

const dropDatabases = (adminUrl: string, prefix: string): Promise<void> =>
  withClient(adminUrl, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [prefix],
    );
    for (const { datname } of rows) await client.query(`drop database if exists ${datname} with (force)`);
  });

const withClient = async (url: string, work: (client: Client) => Promise<unknown>): Promise<void> => {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
};

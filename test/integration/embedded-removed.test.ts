import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { accepts, forkOwner, kill, postgresBelow, query, until } from '../support/embedded.ts';

let home: string;
let dataDir: string;
let messages: string[];
const opened: (() => Promise<void>)[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'driftstack-removed-'));
  dataDir = join(home, 'data', 'postgres');
  messages = [];
});

afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
  const left = await postgresBelow(home);
  for (const { pid } of left) process.kill(pid, 'SIGKILL');
  await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 });
});

const start = async (): Promise<EmbeddedPostgres> => {
  const postgres = await startEmbeddedPostgres({
    dataDir,
    log: (message) => messages.push(message),
    durable: false,
  });
  opened.push(postgres.close);
  return postgres;
};

/** The pid of one process of the PostgreSQL below `home`, by a part of its title; there must be just one. */
const pidOf = async (title: string): Promise<number> => {
  const [found, ...others] = (await postgresBelow(home)).filter((one) => one.title.includes(title));
  if (found === undefined || others.length > 0) throw new Error(`there is not just one ${title}`);
  return found.pid;
};

/** By its own lock file: a process that it has just forked has its title for a moment. */
const postmasterPid = async (): Promise<number> =>
  Number.parseInt(await readFile(join(dataDir, 'cluster', 'postmaster.pid'), 'utf8'), 10);

/** Stops a process where it stands, as a busy one may look from outside: it takes in no signal but SIGKILL. */
const freeze = async (title: string): Promise<void> => {
  await until(async () => (await postgresBelow(home)).some((one) => one.title.includes(title)));
  process.kill(await pidOf(title), 'SIGSTOP');
};

describe.runIf(process.platform === 'linux')('PostgreSQL whose directory goes away under it', () => {
  test('is ended with all its processes, at once, though nothing of it can be found by its path', async () => {
    const postgres = await start();
    expect((await postgresBelow(home)).length).toBeGreaterThan(3);
    await rm(home, { recursive: true });
    // PostgreSQL notices by itself, but looks once a minute only.
    const closing = performance.now();
    await postgres.close();
    expect(performance.now() - closing).toBeLessThan(15_000);
    expect(await postgresBelow(home)).toEqual([]);
    expect(await accepts(postgres.url)).toBe(false);
  });

  test('is ended with a process of it that does not follow its postmaster', async () => {
    const postgres = await start();
    await freeze('autovacuum launcher');
    await rm(home, { recursive: true });
    await postgres.close();
    expect(await postgresBelow(home)).toEqual([]);
  });

  test('leaves nothing when its process is killed', async () => {
    const { child, url } = await forkOwner(dataDir);
    opened.push(() => kill(child));
    await query(url, 'select 1');
    await rm(home, { recursive: true });
    await kill(child);
    await until(async () => (await postgresBelow(home)).length === 0);
  });

  test('says so once when it ends, and is not started again in what is not there', async () => {
    const postgres = await start();
    const postmaster = await postmasterPid();
    await rm(home, { recursive: true });
    process.kill(postmaster, 'SIGKILL');
    await until(async () => messages.length > 1);
    expect(messages[1]).toMatch(/cluster was deleted, moved or replaced .*[Ss]tart this process again/);
    await postgres.close();
    expect(messages).toHaveLength(2);
    expect(await postgresBelow(home)).toEqual([]);
  });

  test('lives on where it was moved to, and is ended there in order', async () => {
    const postgres = await start();
    await query(postgres.url, 'create table kept as select 42 as value');
    await rename(join(home, 'data'), join(home, 'moved'));
    expect(await query(postgres.url, 'select value from kept')).toEqual([{ value: 42 }]);
    await postgres.close();
    expect(await postgresBelow(home)).toEqual([]);
    dataDir = join(home, 'moved', 'postgres');
    expect(await query((await start()).url, 'select value from kept')).toEqual([{ value: 42 }]);
    expect(messages).toEqual([]);
  });
});

describe.runIf(process.platform === 'linux')('PostgreSQL whose directory another start made anew', () => {
  test('leaves that one alone when it is closed, and when it crashes', async () => {
    const first = await start();
    const old = await postmasterPid();
    await rm(join(home, 'data'), { recursive: true });
    const second = await start();
    await query(second.url, 'create table kept as select 42 as value');
    const others = (await postgresBelow(home)).filter(({ cwd }) => !cwd.endsWith(' (deleted)'));
    expect(others.length).toBeGreaterThan(3);

    process.kill(old, 'SIGKILL');
    await until(async () => messages.length > 1);
    await first.close();
    expect(await query(second.url, 'select value from kept')).toEqual([{ value: 42 }]);
    const left = await postgresBelow(home);
    expect(left.filter(({ cwd }) => cwd.endsWith(' (deleted)'))).toEqual([]);
    expect(left.map(({ pid }) => pid)).toEqual(expect.arrayContaining(others.map(({ pid }) => pid)));
    expect(messages).toEqual([
      'PostgreSQL ended by itself (signal SIGKILL); starting it again',
      expect.stringMatching(/deleted, moved or replaced/),
    ]);
  });

  test('does not fight for a directory whose lock somebody deleted', async () => {
    const first = await start();
    await rm(join(dataDir, 'owner.lock'));
    const second = await start();
    await query(second.url, 'create table kept as select 42 as value');
    await until(async () => messages.length > 1);
    await first.close();
    expect(await query(second.url, 'select value from kept')).toEqual([{ value: 42 }]);
    expect(messages.at(-1)).toMatch(/deleted, moved or replaced/);
  });
});

test.runIf(process.platform === 'linux')(
  'comes back within seconds when its postmaster was killed and a child of it lives on',
  async () => {
    const postgres = await start();
    await query(postgres.url, 'create table kept as select 42 as value');
    await freeze('autovacuum launcher');
    process.kill(await postmasterPid(), 'SIGKILL');
    await until(() =>
      query(postgres.url, 'select value from kept').then(
        (rows) => rows.length === 1,
        () => false,
      ),
    );
    await postgres.close();
    expect(await postgresBelow(home)).toEqual([]);
  },
);

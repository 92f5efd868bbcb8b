import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { z } from 'zod';

const ROOT = join(import.meta.dirname, '../..');

export type Owner = { child: ChildProcess; url: string };

/** Starts a process that owns an embedded PostgreSQL in `dataDir` until it is killed; throws what it said if it ends. */
export const forkOwner = async (
  dataDir: string,
  { checkout = ROOT, env = process.env } = {},
): Promise<Owner> => {
  const child = fork(join(checkout, 'test/support/own-postgres.ts'), [dataDir], {
    execArgv: [],
    env,
    silent: true,
  });
  let said = '';
  child.stderr?.on('data', (chunk) => {
    said += String(chunk);
  });
  const ended = once(child, 'close').then(() => {
    throw new Error(`The owner ended: ${said}`);
  });
  const [message] = await Promise.race([once(child, 'message'), ended]);
  ended.catch(() => undefined);
  return { child, url: z.object({ url: z.string() }).parse(message).url };
};

export const kill = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
};

export const query = async (url: string, sql: string): Promise<unknown[]> => {
  const client = new Client({ connectionString: url });
  // A server that is ended tells its idle clients so, which is not what these tests are about.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
};

export const accepts = async (url: string): Promise<boolean> => {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
};

export const until = async (condition: () => Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('this did not come true within ten seconds');
    await delay(20);
  }
};

/**
 * Every process of PostgreSQL below `home` by what the kernel says of its working directory, deleted or not; `home`
 * must be a name that nobody else has had. The title is what PostgreSQL calls itself, such as `checkpointer`.
 */
export const postgresBelow = async (home: string): Promise<{ pid: number; title: string; cwd: string }[]> => {
  const found = await Promise.all(
    (await readdir('/proc'))
      .filter((entry) => /^\d+$/.test(entry))
      .map(async (pid) => {
        const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '');
        const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
        return { pid: Number(pid), title: command.replaceAll('\0', ' ').trim(), cwd };
      }),
  );
  return found.filter(({ cwd, title }) => cwd.startsWith(`${home}/`) && title.includes('postgres'));
};

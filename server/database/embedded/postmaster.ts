import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MendableError } from '../mendable.ts';
import { beginAnew, pathForPostgres } from './cluster.ts';
import type { RunAs } from './user.ts';

export type Postmaster = {
  port: number;
  /** Resolves, with a word on how, when PostgreSQL has stopped for whatever reason. */
  ended: Promise<string>;
  /** Ends it at once, without order. */
  kill(): void;
};

type Options = {
  postgres: string;
  clusterDir: string;
  logPath: string;
  runAs: RunAs;
  durable: boolean;
  /** The port to come back on after a crash; without it any free one. */
  port?: number;
};

const START_TIMEOUT_MS = 60_000;
const PORT_ATTEMPTS = 5;

/**
 * Starts PostgreSQL on a port of 127.0.0.1 and returns once it accepts connections. Throws with
 * PostgreSQL's own last lines.
 */
export const launch = async (options: Options): Promise<Postmaster> => {
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    const child = spawnPostgres(options, port);
    const watchdog = child.pid === undefined ? undefined : watch(child.pid, options.runAs);
    const ended = endOf(child).then((how) => {
      // Its pid may soon be somebody else's, so nobody must be left who would send it a signal.
      watchdog?.kill('SIGKILL');
      return how;
    });
    if (await becameReady(options.clusterDir, child, ended)) {
      return { port, ended, kill: () => child.kill('SIGKILL') };
    }
    const said = readFileSync(options.logPath, 'utf8').trim();
    // Another process may have taken the port between our look and PostgreSQL's start.
    if (attempt < PORT_ATTEMPTS && said.includes('Address already in use')) continue;
    throw new MendableError(
      `PostgreSQL did not start (${await ended}): ${reasonIn(said, options.clusterDir)}. If its data ` +
        `is damaged, ${beginAnew(dirname(options.clusterDir))}; all it said is in ${options.logPath}.`,
    );
  }
};

/** The one line that tells most; PostgreSQL knows its directory by another name than the person who reads it. */
const reasonIn = (said: string, clusterDir: string): string => {
  const fatal = said.split('\n').findLast((line) => /\b(FATAL|PANIC):/.test(line));
  const reason = fatal?.replace(/^.*\b(FATAL|PANIC): +/, '') ?? said.replaceAll(/\s*\n\s*/g, ' ').slice(-500);
  return reason.replaceAll('/proc/self/cwd', clusterDir).replace(/\.$/, '') || 'it said nothing';
};

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('A TCP server has no port');
  return address.port;
};

const spawnPostgres = (options: Options, port: number): ChildProcess => {
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    `port=${port}`,
    'timezone=UTC',
    'log_timezone=UTC',
    // Statements of ours that fail are reported by us; here their values would stay readable for long.
    'log_min_error_statement=panic',
    // What PostgreSQL says of a refusal quotes the row; what it says of itself is LOG or graver, and stays.
    'log_min_messages=log',
    'log_error_verbosity=terse',
    // Commits stay synchronous, so that even then only a crash of the machine loses any, not one of PostgreSQL.
    ...(options.durable ? [] : ['fsync=off', 'full_page_writes=off']),
  ];
  const log = openSync(options.logPath, 'w', 0o600);
  try {
    const directory = pathForPostgres(options.clusterDir);
    return spawn(options.postgres, ['-D', directory, ...settings.flatMap((it) => ['-c', it])], {
      ...options.runAs,
      cwd: options.clusterDir,
      // Nothing of our environment: it holds secrets of ours, and PG* variables meant for clients.
      env: { PATH: '/usr/bin:/bin' },
      // A group of its own: Ctrl-C in a terminal reaches us alone, and we end PostgreSQL after our own work.
      detached: true,
      stdio: ['ignore', 'ignore', log],
    });
  } finally {
    closeSync(log);
  }
};

const endOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
  });

/**
 * A tiny shell that waits for the end of its input, which the kernel brings when we die, and then asks
 * PostgreSQL to end: so even kill -9 of this process leaves nothing running.
 */
const watch = (postmasterPid: number, runAs: RunAs): ChildProcess => {
  const script = 'read -r _; kill -INT "$1"';
  return spawn('/bin/sh', ['-c', script, 'driftstack-postgres-watchdog', String(postmasterPid)], {
    ...runAs,
    cwd: '/',
    env: {},
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
};

/** PostgreSQL keeps its state in the eighth line of postmaster.pid; pg_ctl waits by it too. */
const becameReady = async (
  clusterDir: string,
  child: ChildProcess,
  ended: Promise<string>,
): Promise<boolean> => {
  let over = false;
  ended.then(() => {
    over = true;
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!over) {
    const lines = readLockFile(clusterDir);
    if (lines[0] === String(child.pid) && lines[7]?.trim() === 'ready') return true;
    if (performance.now() > deadline) {
      child.kill('SIGQUIT');
      await ended;
    }
    await delay(10);
  }
  return false;
};

const readLockFile = (clusterDir: string): string[] => {
  try {
    return readFileSync(join(clusterDir, 'postmaster.pid'), 'utf8').split('\n');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
};

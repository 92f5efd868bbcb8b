import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Ends whatever PostgreSQL still works in `clusterDir`, as gently as it lets us: fast shutdown, then
 * immediate, then kill. Returns once nothing of it is left.
 */
export const endPostgres = async (clusterDir: string, log: (message: string) => void): Promise<void> => {
  for (const { signal, timeoutMs } of ESCALATION) {
    const pids = findPostgres(clusterDir);
    if (pids.length === 0) return;
    // Only the postmaster knows how to end the others in order; without it, or in the end, each is told.
    const postmaster = readPostmasterPid(clusterDir);
    const leader = pids.filter((pid) => pid === postmaster);
    const targets = signal === 'SIGKILL' || leader.length === 0 ? pids : leader;
    if (signal !== 'SIGINT') log(`PostgreSQL in ${clusterDir} does not end, sending ${signal} to ${targets}`);
    for (const pid of targets) send(pid, signal);
    if (await goneWithin(clusterDir, timeoutMs)) return;
  }
  throw new Error(`PostgreSQL in ${clusterDir} cannot be ended: processes ${findPostgres(clusterDir)}`);
};

/**
 * Removes a lock file left by a postmaster that was killed. PostgreSQL does so itself unless the pid in it
 * has been given to another process meanwhile. Call only when nothing of this cluster is running.
 */
export const removeStaleLockFile = (clusterDir: string): void =>
  rmSync(join(clusterDir, 'postmaster.pid'), { force: true });

const ESCALATION = [
  { signal: 'SIGINT', timeoutMs: 10_000 },
  { signal: 'SIGQUIT', timeoutMs: 5_000 },
  { signal: 'SIGKILL', timeoutMs: 5_000 },
] as const;

/** Processes named postgres that work in this very directory: a pid from a file may belong to anyone by now. */
const findPostgres = (clusterDir: string): number[] => {
  const directory = statSync(clusterDir, { throwIfNoEntry: false });
  if (directory === undefined) return [];
  if (process.platform !== 'linux') return findByCommand(clusterDir);
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'postgres') return false;
        const cwd = statSync(`/proc/${pid}/cwd`);
        return cwd.dev === directory.dev && cwd.ino === directory.ino;
      } catch (error) {
        if (isGoneOrForeign(error)) return false;
        throw error;
      }
    })
    .map(Number);
};

/** Where there is no /proc, only the postmaster can be told by its command line; the others follow it. */
const findByCommand = (clusterDir: string): number[] =>
  execFileSync('ps', ['-axww', '-o', 'pid=,command='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(`/postgres -D ${clusterDir} `))
    .map((line) => Number.parseInt(line, 10));

const GONE_OR_FOREIGN = new Set(['ENOENT', 'ESRCH', 'EACCES', 'EPERM']);

const isGoneOrForeign = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && GONE_OR_FOREIGN.has(String(error.code));

const readPostmasterPid = (clusterDir: string): number | undefined => {
  try {
    return Number.parseInt(readFileSync(join(clusterDir, 'postmaster.pid'), 'utf8'), 10);
  } catch (error) {
    if (isGoneOrForeign(error)) return undefined;
    throw error;
  }
};

const send = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!isGoneOrForeign(error)) throw error;
  }
};

const goneWithin = async (clusterDir: string, timeoutMs: number): Promise<boolean> => {
  const deadline = performance.now() + timeoutMs;
  while (findPostgres(clusterDir).length > 0) {
    if (performance.now() > deadline) return false;
    await delay(20);
  }
  return true;
};

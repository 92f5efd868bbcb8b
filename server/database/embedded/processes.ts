import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Place } from './place.ts';

/**
 * Ends whatever PostgreSQL still works in `place`, as gently as it lets us: fast shutdown, then immediate, then
 * kill. Returns once nothing of it is left.
 */
export const endPostgres = async (place: Place, log: (message: string) => void): Promise<void> => {
  for (const { signal, timeoutMs } of ESCALATION) {
    const pids = findPostgres(place);
    if (pids.length === 0) return;
    // Only the postmaster knows how to end the others in order, and only where its files still are.
    const postmaster = readPostmasterPid(place);
    const leader = pids.filter((pid) => pid === postmaster);
    if (signal === 'SIGINT' && leader.length === 0) continue;
    const targets = signal === 'SIGKILL' || leader.length === 0 ? pids : leader;
    if (signal === 'SIGKILL' || (signal === 'SIGQUIT' && leader.length > 0))
      log(`PostgreSQL in ${place.path} does not end, sending ${signal} to ${targets}`);
    for (const pid of targets) send(pid, signal);
    if (await goneWithin(place, timeoutMs)) return;
  }
  throw new Error(`PostgreSQL in ${place.path} cannot be ended: processes ${findPostgres(place)}`);
};

/**
 * Removes a lock file left by a postmaster that was killed. PostgreSQL does so itself unless the pid in it
 * has been given to another process meanwhile. Call only when nothing of this cluster is running.
 */
export const removeStaleLockFile = (place: Place): void => rmSync(lockFileOf(place), { force: true });

const lockFileOf = (place: Place): string => join(place.reach(), 'postmaster.pid');

const ESCALATION = [
  { signal: 'SIGINT', timeoutMs: 10_000 },
  { signal: 'SIGQUIT', timeoutMs: 5_000 },
  { signal: 'SIGKILL', timeoutMs: 5_000 },
] as const;

/** Processes named postgres that work in this very directory: a pid from a file may belong to anyone by now. */
const findPostgres = (place: Place): number[] => {
  if (process.platform !== 'linux') return place.isThere() ? findByCommand(place.path) : [];
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'postgres') return false;
        return place.is(statSync(`/proc/${pid}/cwd`));
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

const readPostmasterPid = (place: Place): number | undefined => {
  try {
    return Number.parseInt(readFileSync(lockFileOf(place), 'utf8'), 10);
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

const goneWithin = async (place: Place, timeoutMs: number): Promise<boolean> => {
  const deadline = performance.now() + timeoutMs;
  while (findPostgres(place).length > 0) {
    if (performance.now() > deadline) return false;
    await delay(20);
  }
  return true;
};

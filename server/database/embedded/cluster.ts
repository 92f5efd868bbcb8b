import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MendableError } from '../mendable.ts';
import type { RunAs } from './user.ts';

export type Cluster = { clusterDir: string; password: string };

type Options = {
  dataDir: string;
  clusterDir: string;
  initdb: string;
  major: number;
  runAs: RunAs;
  durable: boolean;
};

const USER = 'postgres';

/** Where the password of the cluster in `dataDir` is kept, for its owner alone. */
export const passwordPath = (dataDir: string): string => join(dataDir, 'password');

/** The address of a cluster of ours: a secret. */
export const urlOf = (password: string, port: number): string =>
  `postgres://${USER}:${password}@127.0.0.1:${port}/postgres`;

/**
 * How PostgreSQL is told its directory. On Linux by a link that leads to the working directory itself, so
 * that a user who may not enter the directories above (a private home) can still work in it.
 */
export const pathForPostgres = (directory: string): string =>
  process.platform === 'linux' ? '/proc/self/cwd' : directory;

/**
 * Returns the cluster kept in `dataDir`, made on first use. Making it is all or nothing: it is built aside and
 * renamed into place, so a start that was interrupted leaves nothing half made.
 */
export const openCluster = async (options: Options): Promise<Cluster> => {
  const { dataDir, clusterDir } = options;
  const passwordFile = passwordPath(dataDir);
  if (!existsSync(clusterDir)) {
    const password = randomBytes(24).toString('base64url');
    await writeFile(passwordFile, password, { mode: 0o600, flush: true });
    await createCluster(options, password);
  }
  await requireVersion(options);
  if (!existsSync(passwordFile)) {
    throw new MendableError(
      `${passwordFile} is missing, and nobody else knows the password of ${clusterDir}: ${beginAnew(dataDir)}.`,
    );
  }
  return { clusterDir, password: await readFile(passwordFile, 'utf8') };
};

/** What to do about data that cannot be used. */
export const beginAnew = (dataDir: string): string =>
  `restore ${dataDir} from a copy, or delete it to begin anew`;

/** PostgreSQL would say it too, in words for whoever has started it by hand. */
const requireVersion = async ({ dataDir, clusterDir, major }: Options): Promise<void> => {
  const path = join(clusterDir, 'PG_VERSION');
  const text = await readFile(path, 'utf8').catch(() => null);
  if (text?.trim() === String(major)) return;
  if (text !== null && /^\d{1,2}(\.\d)?\s*$/.test(text)) {
    throw new MendableError(
      `PostgreSQL did not start: ${clusterDir} was initialized by PostgreSQL version ${text.trim()}, and this is ${major}. Start the ` +
        `version of the service that it was made with and take the data out with pg_dump, or ${beginAnew(dataDir)}.`,
    );
  }
  throw new MendableError(
    `PostgreSQL did not start: ${clusterDir} is damaged, its file PG_VERSION ${text === null ? 'cannot be read' : 'holds something else'}: ` +
      `${beginAnew(dataDir)}.`,
  );
};

const createCluster = async (options: Options, password: string): Promise<void> => {
  const { dataDir, clusterDir, runAs } = options;
  const building = join(dataDir, 'building');
  const cluster = join(building, 'cluster');
  // An initdb whose parent was killed may still be writing there for a moment.
  await rm(building, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  await mkdir(cluster, { recursive: true, mode: 0o700 });
  // initdb reads the password from a file: on its command line everybody could.
  await writeFile(join(building, 'password'), password, { mode: 0o600 });
  if ('uid' in runAs) {
    for (const path of [building, cluster, join(building, 'password')])
      await chown(path, runAs.uid, runAs.gid);
  }
  await runInitdb(options, cluster);
  await rename(cluster, clusterDir);
  if (options.durable) await syncDirectory(dataDir);
  await rm(building, { recursive: true, force: true });
};

const runInitdb = async ({ initdb, runAs, durable }: Options, cluster: string): Promise<void> => {
  const directory = pathForPostgres(cluster);
  const args = ['-D', directory, '-U', USER, '-A', 'scram-sha-256', `--pwfile=${directory}/../password`];
  // The same order and case rules on every machine, whatever languages it has installed.
  args.push('-E', 'UTF8', '--no-locale', '--locale-provider=builtin', '--builtin-locale=C.UTF-8');
  if (!durable) args.push('--no-sync');
  try {
    await promisify(execFile)(initdb, args, { ...runAs, cwd: cluster, env: { PATH: '/usr/bin:/bin' } });
  } catch (cause) {
    const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause);
    const words = said.replaceAll(/\s*\n\s*/g, '; ').slice(-1000);
    throw new MendableError(`No database could be made in ${cluster}; initdb said: ${words}`, { cause });
  }
};

/** Without this a power cut could forget the rename, and the next start would begin from nothing. */
const syncDirectory = async (path: string): Promise<void> => {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

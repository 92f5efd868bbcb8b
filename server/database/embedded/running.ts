import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { passwordPath, urlOf } from './cluster.ts';
import { isLocked } from './lock.ts';

/**
 * Where the embedded PostgreSQL of `dataDir` listens if another process is running it now, else null.
 * The answer is a secret: it holds the password.
 */
export const findEmbeddedPostgres = async (dataDir: string): Promise<string | null> => {
  const directory = resolve(dataDir);
  const lockFile = join(directory, 'cluster', 'postmaster.pid');
  if (!existsSync(lockFile) || !isLocked(directory)) return null;
  // PostgreSQL's own lock file: pid, directory, start, port, ... each on its line.
  const port = Number((await readFile(lockFile, 'utf8')).split('\n')[3]);
  if (!Number.isInteger(port) || port <= 0) return null;
  return urlOf(await readFile(passwordPath(directory), 'utf8'), port);
};

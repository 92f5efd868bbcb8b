import { closeSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MendableError } from '../mendable.ts';

export type DirectoryLock = {
  /** Whether it still keeps others out: not once its file was deleted or replaced. */
  isHeld(): boolean;
  release(): void;
};

/**
 * Makes this process the only owner of `dataDir`, or throws an error that names the process which is.
 *
 * The lock is SQLite's on an empty file: taken atomically, on every platform, and given back by the kernel
 * when the process dies, however it dies. A pid file alone can do neither; here it only feeds the message.
 */
export const lockDirectory = (dataDir: string): DirectoryLock => {
  const ownerPath = join(dataDir, 'owner.pid');
  // Who only asks whether it is locked holds it for an instant, which is worth waiting out.
  const lock = openLock(dataDir, { timeout: 200 });
  try {
    lock.exec('begin exclusive');
  } catch (error) {
    lock.close();
    if (!isBusy(error)) throw unusable(dataDir, error);
    throw new MendableError(
      `The embedded PostgreSQL in ${dataDir} is already in use by process ${readOwner(ownerPath)}. ` +
        'Stop that process first, or give this one a directory of its own by DATA_DIR.',
    );
  }
  writeFileSync(ownerPath, `${process.pid}\n`, { mode: 0o600 });
  const { dev, ino } = statSync(lockPath(dataDir));
  return {
    isHeld() {
      const found = statSync(lockPath(dataDir), { throwIfNoEntry: false });
      return found?.dev === dev && found.ino === ino;
    },
    release: () => lock.close(),
  };
};

/** Whether a living process owns `dataDir` right now. */
export const isLocked = (dataDir: string): boolean => {
  const lock = openLock(dataDir);
  try {
    lock.exec('begin exclusive');
    return false;
  } catch (error) {
    if (isBusy(error)) return true;
    throw unusable(dataDir, error);
  } finally {
    lock.close();
  }
};

const openLock = (dataDir: string, options: { timeout?: number } = {}): DatabaseSync => {
  try {
    makeLockFile(lockPath(dataDir));
    return new DatabaseSync(lockPath(dataDir), options);
  } catch (error) {
    throw unusable(dataDir, error);
  }
};

/**
 * SQLite would make the file readable for everybody. A file that exists is not opened here: closing it would give
 * back the lock that another part of this process may have on it, which is how POSIX wants it.
 */
const makeLockFile = (path: string): void => {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
};

const lockPath = (dataDir: string): string => join(dataDir, 'owner.lock');

/** The file cannot be written, or somebody put something else in its place. */
const unusable = (dataDir: string, cause: unknown): MendableError =>
  new MendableError(
    `${lockPath(dataDir)} cannot be used (${cause instanceof Error ? cause.message : String(cause)}): ` +
      'give this user the right to write there, and if no other process runs on that directory, delete the file.',
    { cause },
  );

const SQLITE_BUSY = 5;

const isBusy = (error: unknown): boolean =>
  error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;

/** The owner writes its pid just after taking the lock, so for an instant there may be none to read. */
const readOwner = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim() || 'unknown';
  } catch {
    return 'unknown';
  }
};

import { closeSync, fstatSync, openSync, statSync } from 'node:fs';

/**
 * The directory of a cluster itself, whatever becomes of its path: it may be deleted or moved while PostgreSQL
 * works in it, and another start may make a new one there.
 */
export type Place = {
  /** Where it was when it was opened, for messages and for what is to be found by its path. */
  readonly path: string;
  /** Whether `path` still leads to it. */
  isThere(): boolean;
  /** Whether a directory, as `stat` tells of it, is this one. */
  is(directory: { dev: number; ino: number }): boolean;
  /** A path by which it is reached wherever it is now; the same one where the system offers no other. */
  reach(): string;
  close(): void;
};

/** Holds the directory open until `close`: as long as it is, no other directory can be given its inode. */
export const openPlace = (path: string): Place => {
  const fd = openSync(path, 'r');
  const { dev, ino } = fstatSync(fd);
  const is: Place['is'] = (directory) => directory.dev === dev && directory.ino === ino;
  return {
    path,
    is,
    isThere() {
      const found = statSync(path, { throwIfNoEntry: false });
      return found !== undefined && is(found);
    },
    reach: () => (process.platform === 'linux' ? `/proc/self/fd/${fd}` : path),
    close: () => closeSync(fd),
  };
};

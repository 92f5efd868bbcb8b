import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

export interface Stored {
  readonly id: string;
}

/** One SQLite file that holds every value under its kind and id, in the order of their creation. */
export interface Disk {
  /** Oldest first. */
  load(): Iterable<{ kind: string; value: Stored }>;
  /** All of the changes or none; null removes. */
  save(changes: readonly { kind: string; id: string; value: Stored | null }[]): void;
  clear(): void;
  close(): void;
}

/** The file cannot be used. The message is one sentence for whoever can mend it. */
export class StateError extends Error {
  override readonly name = 'StateError';

  constructor(path: string, cause: unknown) {
    super(`The state of the local Stripe in ${path} ${whyUnusable(cause)}.`, { cause });
  }
}

function whyUnusable(error: unknown): string {
  // The lower byte is SQLite's primary code: https://sqlite.org/rescode.html
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : null;
  // Not even the file itself could be made.
  if (error instanceof Error && 'syscall' in error) return `cannot be opened or written (${error.message})`;
  switch (code) {
    case 5:
    case 6:
      return 'is in use by another process: stop that one, or choose another directory';
    case 3:
    case 8:
    case 14:
      return 'cannot be opened or written: give this user the right to, or choose another directory';
    case 13:
      return 'cannot be written because the disk is full: make room';
    case 10:
      return 'cannot be read or written: check the disk';
    default:
      return 'is damaged, or is a file of something else: delete it to begin anew';
  }
}

/** Opens the file, or ':memory:'. Throws a StateError where that cannot be. */
export function openDisk(path: string): Disk {
  const db = open(path);
  try {
    // EXCLUSIVE because the memory of one process is the truth: a second one would not see its changes.
    // NORMAL in WAL mode survives a killed process; only a power cut can lose the last moments, which is fine here.
    db.exec('pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = normal');
    // Ids are random, so each commit touches many pages: copying the log back every 64 MB rather than every 4 MB
    // makes 20,000 single commits take 0.6 s rather than 2.3 s.
    db.exec('pragma wal_autocheckpoint = 16000');
    db.exec(
      'create table if not exists object (seq integer primary key, kind text not null, id text not null, value text not null, unique (kind, id))',
    );
    // Columns that are not there are noticed here, and not in the middle of a change.
    return diskOn(path, db);
  } catch (error) {
    db.close();
    throw new StateError(path, error);
  }
}

function open(path: string): DatabaseSync {
  try {
    if (path !== ':memory:') keepPrivate(path);
    return new DatabaseSync(path);
  } catch (error) {
    throw new StateError(path, error);
  }
}

function diskOn(path: string, db: DatabaseSync): Disk {
  const upsert = db.prepare(
    'insert into object (kind, id, value) values (?, ?, ?) on conflict (kind, id) do update set value = excluded.value',
  );
  const remove = db.prepare('delete from object where kind = ? and id = ?');
  const all = db.prepare('select kind, value from object order by seq');
  function* readAll(): Iterable<{ kind: string; value: Stored }> {
    try {
      for (const row of all.iterate())
        yield { kind: String(row['kind']), value: JSON.parse(String(row['value'])) };
    } catch (error) {
      throw new StateError(path, error);
    }
  }
  return {
    load: readAll,
    save(changes) {
      db.exec('begin');
      try {
        for (const { kind, id, value } of changes) {
          if (value) upsert.run(kind, id, JSON.stringify(value));
          else remove.run(kind, id);
        }
        db.exec('commit');
      } catch (error) {
        db.exec('rollback');
        throw error;
      }
    },
    clear: () => db.exec('delete from object'),
    close: () => db.close(),
  };
}

/** It holds customers and secrets. What SQLite puts beside it gets the mode of this file. */
function keepPrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  chmodSync(path, 0o600);
}

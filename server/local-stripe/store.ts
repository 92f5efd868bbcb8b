import { openDisk, type Stored } from './disk.ts';

/**
 * What the local Stripe keeps, in memory for speed and in one SQLite file so that it survives a restart or a
 * kill -9. Values are never changed in place: a change is a new value under the same id, so that an event can
 * hold the object as it was without copying it.
 */
export interface Store {
  get(kind: string, id: string): Stored | undefined;
  /** Inserts or replaces. The place in the order of creation is that of the first insert. */
  put(kind: string, value: Stored): void;
  remove(kind: string, id: string): void;
  /** Values newest first, starting after (older than) the given id. */
  newestFirst(kind: string, after?: string): Iterable<Stored>;
  /** Values oldest first, starting after (newer than) the given id. */
  oldestFirst(kind: string, after?: string): Iterable<Stored>;
  /** Values of one customer (or another owner), oldest first: see `ownerOf`. */
  ownedBy(kind: string, owner: string): readonly Stored[];
  count(kind: string): number;
  /** Forgets everything. Not within `atomically`. */
  clear(): void;
  /** Runs `work`; when it throws, everything it put or removed is as before, unless `keeps(error)`. */
  atomically<T>(work: () => T, keeps: (error: unknown) => boolean): T;
  /**
   * Runs `work`; what it changes is seen at once, but reaches the disk with the next change or 50 ms later: for what
   * may happen twice after a kill, such as the note that a webhook has arrived. Not for what must not be lost.
   */
  soon(work: () => void): void;
  close(): void;
}

const SOON_MS = 50;

interface Table {
  readonly byId: Map<string, { value: Stored; seq: number }>;
  /** Ids by seq; a removed one leaves a hole, so that positions stay valid. */
  readonly order: (string | undefined)[];
  readonly byOwner: Map<string, Set<string>>;
}

interface Undo {
  readonly kind: string;
  readonly id: string;
  readonly before: Stored | undefined;
}

/**
 * Opens the store. `path` is a file, or ':memory:'.
 * `ownerOf` names the owner under which `ownedBy` finds a value, also where it gets its owner later.
 */
export function openStore(path: string, ownerOf: (value: Stored) => string | null): Store {
  const disk = openDisk(path);
  const tables = new Map<string, Table>();
  let undo: Undo[] | null = null;
  const dirty = new Map<string, { kind: string; id: string }>();
  let unhurried = false;
  let timer: NodeJS.Timeout | null = null;

  const table = (kind: string): Table => {
    let found = tables.get(kind);
    if (!found) {
      found = { byId: new Map(), order: [], byOwner: new Map() };
      tables.set(kind, found);
    }
    return found;
  };

  const write = (kind: string, value: Stored): void => {
    const { byId, order, byOwner } = table(kind);
    const known = byId.get(value.id);
    const owner = ownerOf(value);
    const ownerBefore = known ? ownerOf(known.value) : null;
    if (known) {
      known.value = value;
    } else {
      byId.set(value.id, { value, seq: order.length });
      order.push(value.id);
    }
    if (owner === ownerBefore) return;
    if (ownerBefore !== null) byOwner.get(ownerBefore)?.delete(value.id);
    if (owner === null) return;
    const owned = byOwner.get(owner);
    if (owned) owned.add(value.id);
    else byOwner.set(owner, new Set([value.id]));
  };

  const erase = (kind: string, id: string): void => {
    const { byId, order, byOwner } = table(kind);
    const known = byId.get(id);
    if (!known) return;
    byId.delete(id);
    order[known.seq] = undefined;
    const owner = ownerOf(known.value);
    if (owner !== null) byOwner.get(owner)?.delete(id);
  };

  const note = (kind: string, id: string): void => {
    undo?.push({ kind, id, before: table(kind).byId.get(id)?.value });
    dirty.set(`${kind} ${id}`, { kind, id });
  };

  const flush = (): void => {
    if (dirty.size === 0) return;
    disk.save(
      [...dirty.values()].map(({ kind, id }) => ({
        kind,
        id,
        value: table(kind).byId.get(id)?.value ?? null,
      })),
    );
    dirty.clear();
  };

  for (const { kind, value } of disk.load()) write(kind, value);

  return {
    get: (kind, id) => table(kind).byId.get(id)?.value,
    put(kind, value) {
      note(kind, value.id);
      write(kind, value);
      if (!undo && !unhurried) flush();
    },
    remove(kind, id) {
      note(kind, id);
      erase(kind, id);
      if (!undo && !unhurried) flush();
    },
    *newestFirst(kind, after) {
      const { byId, order } = table(kind);
      const start = after === undefined ? order.length : (byId.get(after)?.seq ?? 0);
      for (let seq = start - 1; seq >= 0; seq--) {
        const id = order[seq];
        const found = id === undefined ? undefined : byId.get(id);
        if (found) yield found.value;
      }
    },
    *oldestFirst(kind, after) {
      const { byId, order } = table(kind);
      const start = after === undefined ? 0 : (byId.get(after)?.seq ?? order.length) + 1;
      for (let seq = start; seq < order.length; seq++) {
        const id = order[seq];
        const found = id === undefined ? undefined : byId.get(id);
        if (found) yield found.value;
      }
    },
    ownedBy(kind, owner) {
      const { byId, byOwner } = table(kind);
      return [...(byOwner.get(owner) ?? [])].flatMap((id) => byId.get(id)?.value ?? []);
    },
    count: (kind) => table(kind).byId.size,
    clear() {
      if (undo) throw new Error('the store cannot be cleared within a transaction');
      tables.clear();
      dirty.clear();
      disk.clear();
    },
    atomically(work, keeps) {
      if (undo) return work();
      undo = [];
      try {
        return work();
      } catch (error) {
        if (!keeps(error)) {
          // What is noted as dirty stays so: it is written once more as it was, along with what `soon` left.
          for (const { kind, id, before } of undo.reverse()) {
            if (before) write(kind, before);
            else erase(kind, id);
          }
        }
        throw error;
      } finally {
        undo = null;
        flush();
      }
    },
    soon(work) {
      unhurried = true;
      try {
        work();
      } finally {
        unhurried = false;
      }
      timer ??= setTimeout(() => {
        timer = null;
        flush();
      }, SOON_MS).unref();
    },
    close() {
      if (timer) clearTimeout(timer);
      flush();
      disk.close();
    },
  };
}

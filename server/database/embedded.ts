import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findBinaries } from './embedded/binaries.ts';
import { openCluster, urlOf } from './embedded/cluster.ts';
import { type DirectoryLock, lockDirectory } from './embedded/lock.ts';
import { openPlace, type Place } from './embedded/place.ts';
import { launch, type Postmaster } from './embedded/postmaster.ts';
import { endPostgres, removeStaleLockFile } from './embedded/processes.ts';
import { chooseUser } from './embedded/user.ts';

export type EmbeddedPostgres = {
  /** Where it listens, with user and password: a secret. */
  url: string;
  /** Ends it by a fast shutdown, escalating after ten seconds; returns once its processes are gone. */
  close(): Promise<void>;
};

type Options = {
  /** Keeps the data over restarts; made if missing, for this user alone. */
  dataDir: string;
  /** Told what went wrong and was mended. */
  log: (message: string) => void;
  /** Told what is as it should be and may interest somebody. */
  info?: (message: string) => void;
  /** `false` trades safety against a power cut for speed: only for data that may be lost. */
  durable?: boolean;
};

/**
 * Starts a PostgreSQL 18 of our own on 127.0.0.1, which ends with this process however that ends and is
 * restarted on the same port if it crashes. Throws a MendableError when `dataDir` belongs to a living process,
 * when its data is damaged or of another version, or when PostgreSQL cannot run here.
 */
export const startEmbeddedPostgres = async (options: Options): Promise<EmbeddedPostgres> => {
  const { log, info = () => undefined, durable = true } = options;
  const dataDir = resolve(options.dataDir);
  const clusterDir = join(dataDir, 'cluster');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const lock = lockDirectory(dataDir);
  try {
    const runAs = chooseUser(clusterDir);
    const { initdb, postgres, major } = await findBinaries(runAs, info);
    const { password } = await openCluster({ dataDir, clusterDir, initdb, major, runAs, durable });
    const logPath = join(dataDir, 'postgres.log');
    const place = openPlace(clusterDir);
    try {
      const run = (port?: number) =>
        launch({ postgres, clusterDir, logPath, runAs, durable, ...(port !== undefined && { port }) });
      const { port, close } = await keepRunning({ run, place, lock, log });
      let closed: Promise<void> | undefined;
      return {
        url: urlOf(password, port),
        close() {
          closed ??= close().finally(() => {
            place.close();
            lock.release();
          });
          return closed;
        },
      };
    } catch (error) {
      place.close();
      throw error;
    }
  } catch (error) {
    lock.release();
    throw error;
  }
};

const RESTART_DELAY_MS = 500;

type Parts = {
  run: (port?: number) => Promise<Postmaster>;
  place: Place;
  lock: DirectoryLock;
  log: (message: string) => void;
};

/**
 * Starts PostgreSQL and brings it back on its port whenever it ends by itself, until `close`, which returns once
 * nothing of it is left.
 */
const keepRunning = async ({
  run,
  place,
  lock,
  log,
}: Parts): Promise<{ port: number; close(): Promise<void> }> => {
  // Who finds our directory without our lock may run a PostgreSQL of his own there by now.
  const isOurs = () => place.isThere() && lock.isHeld();
  const isAnothers = () => place.isThere() && !lock.isHeld();
  const start = async (port?: number): Promise<Postmaster> => {
    await endPostgres(place, log);
    removeStaleLockFile(place);
    return await run(port);
  };
  let current = await start();
  const end = async (): Promise<void> => {
    if (isAnothers()) current.kill();
    else await endPostgres(place, log);
  };
  const closing = new AbortController();
  const keep = async (): Promise<void> => {
    let how = await current.ended;
    while (!closing.signal.aborted) {
      log(`PostgreSQL ended by itself (${how}); starting it again`);
      await delay(RESTART_DELAY_MS);
      if (closing.signal.aborted) return;
      if (!isOurs()) return log(lost(place.path));
      try {
        current = await start(current.port);
        if (closing.signal.aborted) await end();
        how = await current.ended;
      } catch (error) {
        how = error instanceof Error ? error.message : String(error);
      }
    }
  };
  const kept = keep();
  const close = async (): Promise<void> => {
    closing.abort();
    await end();
    // Where it is not told by its directory, as on a system without /proc, it is our child still.
    current.kill();
    await kept;
  };
  return { port: current.port, close };
};

const lost = (clusterDir: string): string =>
  `${clusterDir} was deleted, moved or replaced while PostgreSQL ran there, so it is not started again. ` +
  'Start this process again: it goes on with what lies there then, or begins anew.';

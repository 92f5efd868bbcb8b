import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findBinaries } from './embedded/binaries.ts';
import { openCluster, urlOf } from './embedded/cluster.ts';
import { lockDirectory } from './embedded/lock.ts';
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

    let current: Postmaster | undefined;
    const start = async (port?: number) => {
      await endPostgres(clusterDir, log);
      removeStaleLockFile(clusterDir);
      const onPort = port === undefined ? {} : { port };
      current = await launch({ postgres, clusterDir, logPath, runAs, durable, ...onPort });
      return current;
    };
    const postmaster = await start();
    const closing = new AbortController();
    const end = () => endPostgres(clusterDir, log);
    const kept = keepRunning(postmaster, { start, end, closing: closing.signal, log });
    const close = async () => {
      closing.abort();
      await end();
      // If somebody removed the directory under it, it could not be found there.
      current?.kill();
      await kept;
      lock.release();
    };
    let closed: Promise<void> | undefined;

    return {
      url: urlOf(password, postmaster.port),
      close: () => {
        closed ??= close();
        return closed;
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
};

const RESTART_DELAY_MS = 500;

type Keeping = {
  start: (port: number) => Promise<Postmaster>;
  end: () => Promise<void>;
  closing: AbortSignal;
  log: (message: string) => void;
};

/** Brings PostgreSQL back on its port whenever it ends by itself, until `closing`; then waits for its end. */
const keepRunning = async (first: Postmaster, { start, end, closing, log }: Keeping): Promise<void> => {
  let how = await first.ended;
  while (!closing.aborted) {
    log(`PostgreSQL ended by itself (${how}); starting it again`);
    await delay(RESTART_DELAY_MS);
    if (closing.aborted) return;
    try {
      const again = await start(first.port);
      if (closing.aborted) await end();
      how = await again.ended;
    } catch (error) {
      how = error instanceof Error ? error.message : String(error);
    }
  }
};

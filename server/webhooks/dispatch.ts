import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../database/log.ts';
import { type ClaimedEndpoint, claimEndpoints, release, renewLeases } from './claim.ts';
import { type DrainDeps, drain } from './drain.ts';

export type DispatchDeps = DrainDeps & { readonly log: Log };

export type Dispatcher = {
  /** Starts no more deliveries and waits for those under way. */
  close(): Promise<void>;
};

/** Endpoints delivered to at a time. */
const SLOTS = 64;
/** At most so many of them may be endpoints whose last try failed: however many those are, the others go on. */
const FAILING_SLOTS = 32;
const POLL_MS = 250;
const RENEW_MS = 5_000;
const CLOSE_MS = 5_000;

/**
 * Delivers what is due, endpoint by endpoint. The rows themselves are the queue: a job queue hands out jobs as
 * they came, and a thousand deliveries to a dead endpoint would stand before everybody else's. What a process
 * leaves behind when it dies is taken up by another one once its leases have ended.
 */
export function startDispatcher(deps: DispatchDeps): Dispatcher {
  const { db, clock, log } = deps;
  const leaseId = randomUUID();
  const closing = new AbortController();
  const running = new Map<string, Promise<void>>();
  let failingRunning = 0;
  let wake: () => void = () => undefined;

  const serve = async (endpoint: ClaimedEndpoint): Promise<void> => {
    try {
      await drain(deps, endpoint, { leaseId, signal: closing.signal });
      await release(db, endpoint.id, leaseId);
    } catch (error) {
      // The lease ends by itself, and then the endpoint is tried again: by us or by another process.
      log.warn({ err: error, endpointId: endpoint.id }, 'deliveries to a webhook endpoint were broken off');
    }
  };

  const claim = async (failing: boolean, limit: number): Promise<number> => {
    if (limit <= 0 || closing.signal.aborted) return 0;
    const endpoints = await claimEndpoints(db, {
      leaseId,
      limit,
      failing,
      except: [...running.keys()],
      now: clock.now(),
    });
    for (const endpoint of endpoints) {
      if (failing) failingRunning += 1;
      const serving = serve(endpoint).finally(() => {
        running.delete(endpoint.id);
        if (failing) failingRunning -= 1;
        wake();
      });
      running.set(endpoint.id, serving);
    }
    return endpoints.length;
  };

  const loop = async (): Promise<void> => {
    let renewedAt = performance.now();
    while (!closing.signal.aborted) {
      try {
        if (performance.now() - renewedAt > RENEW_MS && running.size > 0) {
          await renewLeases(db, leaseId, clock.now());
          renewedAt = performance.now();
        }
        await claim(false, SLOTS - running.size);
        await claim(true, Math.min(SLOTS - running.size, FAILING_SLOTS - failingRunning));
      } catch (error) {
        log.warn({ err: error }, 'due webhook deliveries could not be read; trying again');
      }
      await pause();
    }
  };

  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, POLL_MS);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (closing.signal.aborted) wake();
    });

  const looping = loop();
  return {
    async close() {
      closing.abort();
      wake();
      await looping;
      // Who is slower than this is left to the next process: the lease ends by itself.
      await Promise.race([Promise.all(running.values()), sleep(CLOSE_MS, undefined, { ref: false })]);
    },
  };
}

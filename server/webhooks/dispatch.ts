import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SLOW_MS } from '../database/entities/webhooks.ts';
import type { Log } from '../database/log.ts';
import { type ByPace, type ClaimedEndpoint, claimEndpoints, release, renewLeases } from './claim.ts';
import { type DrainDeps, drain } from './drain.ts';

export type Places = {
  /** Endpoints delivered to at a time: those that answer within a second, and those that do not. */
  readonly all: ByPace<number>;
  /** The most of them that one account may have. */
  readonly share: ByPace<number>;
  /** Everything under way: who turns out to be slow leaves its place to a quick one and goes on beside. */
  readonly most: number;
};

export type DispatchDeps = DrainDeps & { readonly log: Log; readonly places?: Places };

export type Dispatcher = {
  /** Looks at once for endpoints that something is due for. Nobody looks who was not woken. */
  wake(): void;
  /** Starts no more deliveries and waits for those under way. */
  close(): Promise<void>;
};

const PLACES: Places = { all: { quick: 64, slow: 32 }, share: { quick: 8, slow: 4 }, most: 256 };
/** How often leases and the time that tries take are looked at, while there are any. */
const TICK_MS = 250;
const RENEW_MS = 5_000;
const CLOSE_MS = 5_000;
/** The pause before an endpoint is taken again whose deliveries were broken off, doubled each time. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

/** An endpoint in this process's hands. */
type Served = {
  readonly accountId: string;
  slow: boolean;
  /** Since when a try is under way. */
  tryingSince: number | null;
  renewedAt: number;
  readonly lost: AbortController;
  readonly ended: Promise<void>;
};

/**
 * Delivers what is due, endpoint by endpoint. The rows themselves are the queue: a job queue hands out jobs as
 * they came, and a thousand deliveries to a dead endpoint would stand before everybody else's. How slow an
 * endpoint is decides for which places it waits, and no account has more than its share of them. What a process
 * leaves behind when it dies is taken up by another one once its leases have ended.
 */
export function startDispatcher(deps: DispatchDeps): Dispatcher {
  const { db, clock, log, places = PLACES } = deps;
  const leaseId = randomUUID();
  const closing = new AbortController();
  const running = new Map<string, Served>();
  const brokenOff = new Map<string, number>();
  let full: ByPace<boolean> = { quick: false, slow: false };
  /** Whether somebody has said that something is due, and whether more was due than there was room for. */
  let woken = false;
  let more = false;
  let endPause: () => void = () => undefined;
  const wake = (): void => {
    woken = true;
    endPause();
  };

  const count = (slow: boolean, accountId?: string): number => {
    let found = 0;
    for (const served of running.values())
      if (served.slow === slow && (accountId ?? served.accountId) === served.accountId) found += 1;
    return found;
  };
  const isWanted = ({ slow, accountId }: Served): boolean => {
    const pace = slow ? 'slow' : 'quick';
    return full[pace] || count(slow, accountId) >= places.share[pace];
  };

  const serve = async (endpoint: ClaimedEndpoint, served: Served): Promise<void> => {
    const held = { endpointId: endpoint.id, leaseId };
    try {
      await drain(deps, endpoint, {
        leaseId,
        signal: AbortSignal.any([closing.signal, served.lost.signal]),
        wanted: () => isWanted(served),
        onTry: (since) => {
          served.tryingSince = since;
        },
      });
      await release(db, { ...held, now: clock.now() });
      brokenOff.delete(endpoint.id);
    } catch (error) {
      const times = brokenOff.get(endpoint.id) ?? 0;
      brokenOff.set(endpoint.id, times + 1);
      const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** times, LONGEST_PAUSE_MS);
      log.warn(
        { err: error, endpointId: endpoint.id, pauseMs },
        'deliveries to a webhook endpoint were broken off',
      );
      const now = clock.now();
      await release(db, { ...held, now }, new Date(now.getTime() + pauseMs)).catch((err: unknown) => {
        // Nobody renews its lease any more, so it ends by itself.
        log.warn({ err, endpointId: endpoint.id }, 'a webhook endpoint could not be given back');
      });
    }
  };

  const begin = (endpoint: ClaimedEndpoint): void => {
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const served: Served = {
      accountId: endpoint.accountId,
      slow: endpoint.paceMs >= SLOW_MS,
      tryingSince: null,
      renewedAt: performance.now(),
      lost: new AbortController(),
      ended,
    };
    running.set(endpoint.id, served);
    void serve(endpoint, served).finally(() => {
      running.delete(endpoint.id);
      resolve();
      wake();
    });
  };

  /** Whoever is tried for too long gives its place to a quick one, whatever is known of it. */
  const tellSlowOnes = (): void => {
    const before = performance.now() - SLOW_MS;
    for (const served of running.values())
      if (served.tryingSince !== null && served.tryingSince < before) served.slow = true;
  };

  const claim = async (): Promise<void> => {
    woken = false;
    more = false;
    const left = places.most - running.size;
    const quick = Math.max(0, Math.min(places.all.quick - count(false), left));
    const free = { quick, slow: Math.max(0, Math.min(places.all.slow - count(true), left - quick)) };
    if (closing.signal.aborted || free.quick + free.slow === 0) {
      full = { quick: true, slow: true };
      more = true;
      return;
    }
    const endpoints = await claimEndpoints(db, {
      leaseId,
      free,
      share: places.share,
      held: [...running.values()],
      except: [...running.keys()],
      now: clock.now(),
    });
    const taken = endpoints.filter(({ paceMs }) => paceMs >= SLOW_MS).length;
    full = { quick: endpoints.length - taken >= free.quick, slow: taken >= free.slow };
    // There may be more of them, for the next place that is free.
    more = full.quick || full.slow;
    for (const endpoint of endpoints) begin(endpoint);
  };

  const renew = async (): Promise<void> => {
    const before = performance.now() - RENEW_MS;
    const endpointIds = [...running].filter(([, { renewedAt }]) => renewedAt < before).map(([id]) => id);
    if (endpointIds.length === 0) return;
    const at = performance.now();
    const { renewed, lost } = await renewLeases(db, { leaseId, endpointIds });
    for (const id of renewed) {
      const served = running.get(id);
      if (served) served.renewedAt = at;
    }
    for (const id of lost) running.get(id)?.lost.abort();
  };

  const loop = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        tellSlowOnes();
        await renew();
        if (woken || more) await claim();
      } catch (error) {
        more = true;
        log.warn({ err: error }, 'due webhook deliveries could not be read; trying again');
      }
      await pause();
    }
  };

  /** Until something is to be done: a tick where endpoints are being served, and else until somebody wakes us. */
  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      const timer = running.size > 0 ? setTimeout(resolve, TICK_MS) : undefined;
      endPause = () => {
        clearTimeout(timer);
        resolve();
      };
      if (closing.signal.aborted || woken) endPause();
    });

  const looping = loop();
  return {
    wake,
    async close() {
      closing.abort();
      endPause();
      await looping;
      // Who is slower than this is left to the next process: the lease ends by itself.
      const under = [...running.values()].map(({ ended }) => ended);
      await Promise.race([Promise.all(under), sleep(CLOSE_MS, undefined, { ref: false })]);
    },
  };
}

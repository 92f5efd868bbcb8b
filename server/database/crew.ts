import { setTimeout as sleep } from 'node:timers/promises';
import { RENEW_MS } from './lease.ts';
import type { Log } from './log.ts';

export type CrewOptions<Item> = {
  /** What it works on, for the log. */
  readonly name: string;
  /** How many items are worked on at a time. */
  readonly places: number;
  /** Leases up to so many items that are due. */
  claim(free: number): Promise<readonly Item[]>;
  /**
   * Works on one and gives it back, whatever comes of it; what it throws is logged. The signal says that the item was
   * lost to somebody else, or that this process must end.
   */
  work(item: Item, signal: AbortSignal): Promise<void>;
  /** Gives a sign of life for these, and answers those that are lost. */
  renew(items: readonly Item[]): Promise<readonly Item[]>;
  readonly log: Log;
};

export type Crew = {
  /** Looks whether something is due; costs nothing while every place is taken. */
  wake(): void;
  /** Takes nothing more and waits for what is under way, then tells it to end. */
  close(): Promise<void>;
};

const CLOSE_MS = 8_000;

/**
 * Works on what is due, as many at a time as there are places, for as long as it is not closed. However often it is
 * woken, one claim is under way at a time. Leases are renewed every second by naming what is being worked on and
 * nothing else, so that what is forgotten here is free again elsewhere.
 */
export function startCrew<Item>({ name, places, claim, work, renew, log }: CrewOptions<Item>): Crew {
  const running = new Map<Item, { readonly stop: AbortController; readonly ended: Promise<void> }>();
  let closed = false;
  let due = false;
  let claiming: Promise<void> | null = null;

  const begin = (item: Item): void => {
    const stop = new AbortController();
    const ended = work(item, stop.signal)
      .catch((err: unknown) => log.error({ err, crew: name }, 'work was broken off; it is taken up again'))
      .finally(() => {
        running.delete(item);
        if (due) wake();
      });
    running.set(item, { stop, ended });
  };

  const take = async (): Promise<void> => {
    while (due && !closed && running.size < places) {
      due = false;
      const free = places - running.size;
      const items = await claim(free);
      // There may be more of them, for the next place that is free.
      if (items.length === free) due = true;
      for (const item of items) begin(item);
    }
  };

  const wake = (): void => {
    due = true;
    if (closed || claiming !== null || running.size >= places) return;
    // Whoever else ends in the same turn has a free place by then.
    claiming = Promise.resolve()
      .then(take)
      .catch((err: unknown) => {
        // The next look at what is due comes within a second.
        due = false;
        log.warn({ err, crew: name }, 'what is due could not be taken; trying again');
      })
      .finally(() => {
        claiming = null;
        if (due && running.size < places) wake();
      });
  };

  const renewing = setInterval(() => {
    if (running.size === 0) return;
    renew([...running.keys()]).then(
      (lost) => {
        for (const item of lost) running.get(item)?.stop.abort();
      },
      (err: unknown) => log.warn({ err, crew: name }, 'leases could not be renewed; trying again'),
    );
  }, RENEW_MS);

  return {
    wake,
    async close() {
      closed = true;
      await claiming;
      const all = async (): Promise<void> => {
        await Promise.all([...running.values()].map(({ ended }) => ended));
      };
      await Promise.race([all(), sleep(CLOSE_MS, undefined, { ref: false })]);
      for (const { stop } of running.values()) stop.abort();
      clearInterval(renewing);
    },
  };
}

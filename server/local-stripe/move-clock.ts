import { setTimeout as sleep } from 'node:timers/promises';
import type { Deliveries } from './deliveries.ts';
import type { World } from './world.ts';

/** A program that lives in the time of this clock, and is waited for while the clock is moved. */
export interface Follower {
  /** Does what is due by now, and answers whether nothing else is still to be done at this moment. */
  settle(): Promise<boolean>;
  /** When something falls due there that is not due here; null where nothing does. */
  nextDue(): Promise<Date | null>;
}

/** A move under way, or the last one. */
export interface Move {
  /** Unix seconds. */
  readonly from: number;
  readonly to: number;
  /** How many moments with something to do it has come through. */
  readonly moments: number;
  readonly state: 'moving' | 'done' | 'stopped' | 'failed';
  /** What a person should know: moments that were left before everything had been done. */
  readonly warnings: readonly string[];
}

export interface ClockMover {
  /**
   * Moves the local Stripe's own clock ahead to `to`, or on to there when a move is under way. It goes from one moment at
   * which something falls due to the next, and stays at each until the webhooks about it were answered and the
   * follower has settled. Resolves at the end.
   */
  move(to: number): Promise<void>;
  /** Where a move under way leads; null while the clock runs with real time. */
  target(): number | null;
  current(): Move | null;
  /** From now on this program is waited for, also while a clock that was left behind catches up with real time. */
  follow(follower: Follower): void;
  /** Whether the clock waits for its follower: nothing falls due meanwhile. */
  isStanding(): boolean;
  /** Ends a move after the moment it is at. */
  stop(): void;
  /** The same, and waits for it. */
  close(): Promise<void>;
}

/** How long one moment may take; and the next ones, once one has taken longer. */
const PATIENCE_MS = 10_000;
const LITTLE_PATIENCE_MS = 500;
const LOOK_EVERY_MS = 20;
/** How often a follower is asked whether something is due while the clock runs by itself. */
const ASK_EVERY_MS = 30_000;
const MOST_WARNINGS = 5;

export interface MoveOptions {
  readonly patienceMs?: number;
  /** The clock stands, so far behind, until somebody follows; null lets it run. */
  readonly behindSeconds?: number | null;
  readonly onFailure: (error: unknown) => void;
}

/** The local Stripe's own clock, to be moved. */
export function moveClock(
  world: World,
  deliveries: Pick<Deliveries, 'pump' | 'busy' | 'missedSince'>,
  { patienceMs = PATIENCE_MS, behindSeconds = null, onFailure }: MoveOptions,
): ClockMover {
  let standing = behindSeconds !== null;
  let follower: Follower | null = null;
  let move: Move | null = null;
  let running: Promise<void> | null = null;
  let stopped = false;
  let closing = false;
  let owedUntil: number | null = null;
  let patient = true;
  let events = 0;
  world.onEvent(() => {
    events += 1;
  });

  const note = (change: Partial<Move>): void => {
    if (move) move = { ...move, ...change };
  };
  const warn = (warning: string): void => {
    if (move && move.warnings.length < MOST_WARNINGS) note({ warnings: [...move.warnings, warning] });
  };

  const isSettled = async (): Promise<boolean> => {
    if (deliveries.busy() > 0) return false;
    // One that cannot tell, as while its database is away, is waited for as long as one that is busy.
    const settled = await (follower?.settle() ?? Promise.resolve(true)).catch(() => false);
    // What it did may have told new events.
    return settled && deliveries.busy() === 0;
  };

  const settle = async (): Promise<void> => {
    const deadline = performance.now() + (patient ? patienceMs : LITTLE_PATIENCE_MS);
    let settled = false;
    while (!stopped) {
      settled = await isSettled();
      if (settled || performance.now() > deadline) break;
      await sleep(LOOK_EVERY_MS);
    }
    if (!settled && !stopped)
      warn(`${moment(world.now())}: not everything was done after ${patienceMs / 1_000} s, and time went on`);
    patient = settled;
  };

  /** The next moment at which something falls due, at most `to`. */
  const nextMoment = async (to: number): Promise<number> => {
    const here = world.nextWake(null) ?? to;
    const due = await follower?.nextDue().catch(() => null);
    const there = due?.getTime() ?? Number.POSITIVE_INFINITY;
    return Math.max(world.now(), Math.min(to, here, Math.ceil(there / 1_000)));
  };

  const step = async (to: number): Promise<void> => {
    const [before, at] = [events, await nextMoment(to)];
    world.skip(Math.max(0, at - world.now()));
    if (owedUntil !== null) owe(world, owedUntil - world.now());
    world.runUntil(world.now(), null);
    deliveries.pump();
    await settle();
    if (events > before || at < to) note({ moments: (move?.moments ?? 0) + 1 });
  };

  const run = async (): Promise<void> => {
    try {
      // What was under way before belongs to the time before.
      await settle();
      while (!stopped && move && world.now() < move.to) await step(move.to);
      const missed = move ? deliveries.missedSince(move.from) : 0;
      const webhooks = missed === 1 ? '1 webhook of this time has' : `${missed} webhooks of this time have`;
      if (missed > 0) warn(`${webhooks} not arrived, see Events and deliveries`);
      note({ state: stopped ? 'stopped' : 'done' });
    } catch (error) {
      note({ state: 'failed' });
      warn(`${moment(world.now())}: ${error instanceof Error ? error.message : String(error)}`);
      onFailure(error);
    } finally {
      running = null;
    }
  };

  /** Real time is owed until it is reached, also over further restarts. What breaks on the way must not keep us. */
  const catchUp = async (mover: ClockMover, to: number): Promise<void> => {
    owedUntil = to;
    await mover.move(to);
    owedUntil = null;
    if (closing) return;
    if (move?.state === 'failed') world.skip(Math.max(0, to - world.now()));
    owe(world, 0);
  };

  const asking = setInterval(() => {
    if (!running) void isSettled();
  }, ASK_EVERY_MS).unref();

  return {
    async move(to) {
      if (stopped) await running;
      if (running) {
        note({ to: Math.max(to, move?.to ?? to) });
      } else {
        stopped = false;
        patient = true;
        move = { from: world.now(), to, moments: 0, state: 'moving', warnings: [] };
        running = run();
      }
      await running;
    },
    target: () => (running && !stopped ? (move?.to ?? null) : null),
    current: () => move,
    follow(next) {
      follower = next;
      if (!standing) return;
      standing = false;
      if (behindSeconds) void catchUp(this, world.now() + behindSeconds);
    },
    isStanding: () => standing,
    stop() {
      stopped = true;
    },
    async close() {
      clearInterval(asking);
      closing = true;
      stopped = true;
      await running;
    },
  };
}

/**
 * Sets the clock back to where it had come when it was stopped, and answers by how much: whoever follows shall live
 * through the moments since then one by one.
 */
export function standBack(world: World): number {
  const owed = world.hidden.get<{ seconds: number }>('clock', 'owed')?.seconds ?? 0;
  const now = world.now() + owed;
  const reached = world.hidden.get<{ at: number }>('clock', 'reached')?.at ?? now;
  const behind = Math.max(0, now - reached);
  world.skip(owed - behind);
  owe(world, behind);
  return behind;
}

/** Notes how far the clock has come, for `standBack` at the next start. */
export function noteReached(world: World): void {
  world.hidden.put('clock', 'reached', { at: world.now() });
}

function owe(world: World, seconds: number): void {
  world.hidden.put('clock', 'owed', { seconds: Math.max(0, seconds) });
}

const moment = (seconds: number): string =>
  `${new Date(seconds * 1_000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

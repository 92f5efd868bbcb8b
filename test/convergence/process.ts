import type { Database } from '../../server/database/connection.ts';
import type { StripeCalls, StripeGateway } from '../../server/stripe/gateway.ts';

/** What every pending call of a killed process ends with. */
export class Killed extends Error {
  override readonly name = 'Killed';
}

/** Answers that are held back, each until a given step of the case or until somebody is in a hurry. */
export type Gates = {
  /** Waits until the case has gone on by so many steps. */
  hold(steps: number): Promise<void>;
  /** The case goes on: opens what was held until now. */
  step(): void;
  /** Opens the oldest, for a case that waits for a call to end; false when nothing is held. */
  hurry(): boolean;
};

export function gates(): Gates {
  let now = 0;
  let held: { until: number; open: () => void }[] = [];
  return {
    hold: (steps) => new Promise((open) => held.push({ until: now + steps, open })),
    step() {
      now += 1;
      const due = held.filter(({ until }) => until <= now);
      held = held.filter(({ until }) => until > now);
      for (const { open } of due) open();
    },
    hurry() {
      const oldest = held.shift();
      oldest?.open();
      return oldest !== undefined;
    },
  };
}

/** One process of ours from its start to its death, as far as it touches PostgreSQL and Stripe. */
export type Life = {
  readonly db: Database;
  readonly gateway: StripeGateway;
  isDead(): boolean;
  /** Kills it at the so-many-th point from now; a point lies before and after each call and each commit. */
  doom(points: number): void;
  /** How many steps each of the next answers of Stripe is held back. */
  slow(steps: readonly number[]): void;
};

/** Starts a process. Once dead, whatever it still tries throws `Killed`, and what it has not committed is lost. */
export function startLife(real: { db: Database; gateway: StripeGateway }, held: Gates): Life {
  let dead = false;
  let left = Number.POSITIVE_INFINITY;
  let delays: number[] = [];
  let die = (): void => {};
  const death = new Promise<void>((resolve) => {
    die = resolve;
  });

  const alive = (): void => {
    if (dead) throw new Killed('this process was killed');
  };
  const point = (): void => {
    alive();
    left -= 1;
    if (left > 0) return;
    dead = true;
    die();
    alive();
  };
  const call = async <T>(work: () => Promise<T>): Promise<T> => {
    point();
    const answer = await work();
    const steps = delays.shift() ?? 0;
    if (steps > 0) await Promise.race([held.hold(steps), death]);
    point();
    return answer;
  };
  const wrap = <T extends StripeCalls>(calls: T): T =>
    new Proxy(calls, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function' || name === 'forgetPrices') return value;
        if (name === 'within') return (ms: number) => wrap(Reflect.apply(value, target, [ms]));
        return (...args: unknown[]) => call(async () => await Reflect.apply(value, target, args));
      },
    });

  const { db, gateway } = real;
  return {
    gateway: wrap(gateway),
    db: {
      get orm() {
        alive();
        return db.orm;
      },
      get pool() {
        alive();
        return db.pool;
      },
      url: db.url,
      async transaction(fn, options) {
        alive();
        const result = await db.transaction(async (tx) => {
          const done = await fn(tx);
          point();
          return done;
        }, options);
        point();
        return result;
      },
      async transactionOn(accountId, fn) {
        alive();
        const result = await db.transactionOn(accountId, async (tx) => {
          const done = await fn(tx);
          point();
          return done;
        });
        point();
        return result;
      },
      close: () => db.close(),
    },
    isDead: () => dead,
    doom(points) {
      left = points;
    },
    slow(steps) {
      delays = [...steps];
    },
  };
}

import type { Database, Tx } from '../../server/database/connection.ts';
import type { Statement } from '../../server/database/statement.ts';
import type { StripeCalls, StripeGateway } from '../../server/stripe/api/gateway.ts';
import { reached, type State } from '../support/states.ts';

/** What every pending call of a killed process ends with. */
export class Killed extends Error {
  override readonly name = 'Killed';
}

/** Answers that are held back, each until a given step of the case or until somebody is in a hurry. */
export type Gates = {
  /** Waits until the case has gone on by so many steps; `of` is the process that waits. */
  hold(steps: number, of: { isDead(): boolean }): Promise<void>;
  /** How many answers living processes wait for. */
  waiting(): number;
  /** The case goes on: opens what was held until now. */
  step(): void;
  /** Opens the oldest, for a case that waits for a call to end; false when nothing is held. */
  hurry(): boolean;
};

export function gates(): Gates {
  let now = 0;
  let held: { until: number; open: () => void; of: { isDead(): boolean } }[] = [];
  const living = () => held.filter(({ of }) => !of.isDead());
  return {
    hold: (steps, of) =>
      new Promise((open) => {
        held.push({ until: now + steps, open, of });
        reached('Stripe keeps both processes waiting', new Set(living().map((one) => one.of)).size > 1);
      }),
    waiting: () => living().length,
    step() {
      now += 1;
      const [oldest] = living();
      const due = held.filter(({ until }) => until <= now);
      held = held.filter(({ until }) => until > now);
      reached(
        'Stripe answers last what it was asked first',
        oldest !== undefined && oldest.until > now && due.length > 0,
      );
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
  /**
   * Kills it at the so-many-th point from now. A point lies before and after each call of Stripe, before and after each
   * commit, and before and after each statement that is a commit of its own.
   */
  doom(points: number): void;
  /** Kills it when Stripe has carried out the so-many-th refund from now. */
  doomByRefund(count: number): void;
  /** Whether one of the next answers of Stripe is to be held back. */
  isSlow(): boolean;
  /** How many steps each of the next answers of Stripe is held back. */
  slow(steps: readonly number[]): void;
};

/** What it means to die before a call of Stripe, and after it. */
const DEATHS: Readonly<Record<string, readonly [State, State]>> = {
  refund: ['a process dies before it asks for a refund', 'a process dies after Stripe has given back'],
  cancelSubscription: [
    'a process dies before it ends a second subscription',
    'a process dies after it has ended a second subscription',
  ],
  createCustomer: [
    'a process dies before it has a customer made',
    'a process dies after it has had a customer made',
  ],
  setCustomerEmail: [
    'a process dies before it has an address set',
    'a process dies after Stripe has set an address',
  ],
  createCheckoutSession: [
    'a process dies before it opens a session',
    'a process dies after it has opened a session',
  ],
  expireCheckoutSession: [
    'a process dies before it closes a session',
    'a process dies after it has closed a session',
  ],
};
const READING = [
  'a process dies before it reads from Stripe',
  'a process dies with what it has read from Stripe',
] as const;

/** The same for a statement that stands alone, by the name under which it is prepared. */
const STATEMENTS: Readonly<Record<string, readonly [State, State]>> = {
  'claim-one-account_sync': [
    'a process dies before it takes an account',
    'a process dies with an account that it has just taken',
  ],
  'renew-account_sync': ['a process dies before a sign of life', 'a process dies after a sign of life'],
};
const ALONE = [
  'a process dies before a statement that stands alone',
  'a process dies after a statement that stands alone',
] as const;
/** What of an entity manager writes at once, and is a commit of its own outside of a transaction. */
const WRITES = ['execute', 'nativeUpdate', 'nativeDelete'] as const;

/** Starts a process. Once dead, whatever it still tries throws `Killed`, and what it has not committed is lost. */
export function startLife(real: { db: Database; gateway: StripeGateway }, held: Gates): Life {
  let dead = false;
  let left = Number.POSITIVE_INFINITY;
  let refunds = Number.POSITIVE_INFINITY;
  let delays: number[] = [];
  let die = (): void => {};
  const death = new Promise<void>((resolve) => {
    die = resolve;
  });

  const alive = (): void => {
    if (dead) throw new Killed('this process was killed');
  };
  const point = (death: State): void => {
    alive();
    left -= 1;
    if (left > 0) return;
    reached(death);
    dead = true;
    die();
    alive();
  };
  const call = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const [before, after] = DEATHS[name] ?? READING;
    point(before);
    const answer = await work();
    const steps = delays.shift() ?? 0;
    if (steps > 0) await Promise.race([held.hold(steps, { isDead: () => dead }), death]);
    reached('a process dies while Stripe keeps it waiting', dead && steps > 0);
    if (name === 'refund') refunds -= 1;
    if (refunds <= 0) left = 1;
    point(after);
    return answer;
  };
  const wrap = <T extends StripeCalls>(calls: T): T =>
    new Proxy(calls, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function' || name === 'forgetPrices') return value;
        if (name === 'within') return (ms: number) => wrap(Reflect.apply(value, target, [ms]));
        return (...args: unknown[]) =>
          call(String(name), async () => await Reflect.apply(value, target, args));
      },
    });

  const alone = async (name: string, work: () => unknown): Promise<unknown> => {
    const [before, after] = STATEMENTS[name] ?? ALONE;
    point(before);
    const answer = await work();
    point(after);
    return answer;
  };

  const { db, gateway } = real;
  const pool = instead(db.pool, 'query', (...args) =>
    alone(nameOf(args[0]), () => Reflect.apply(db.pool.query, db.pool, args)),
  );
  const fork = (...args: unknown[]): Tx => {
    const em: Tx = Reflect.apply(db.orm.em.fork, db.orm.em, args);
    for (const name of WRITES) {
      const write = em[name];
      Reflect.set(em, name, (...values: unknown[]) => alone(name, () => Reflect.apply(write, em, values)));
    }
    return em;
  };
  const orm = instead(db.orm, 'em', instead(db.orm.em, 'fork', fork));
  return {
    gateway: wrap(gateway),
    db: {
      get orm() {
        alive();
        return orm;
      },
      get pool() {
        alive();
        return pool;
      },
      url: db.url,
      async transaction(fn, options) {
        alive();
        const result = await db.transaction(async (tx) => {
          const done = await fn(tx);
          point('a process dies before it commits');
          return done;
        }, options);
        point('a process dies after it has committed');
        return result;
      },
      async transactionOn(accountId, fn) {
        alive();
        const result = await db.transactionOn(accountId, async (tx) => {
          const done = await fn(tx);
          point('a process dies before it commits');
          return done;
        });
        point('a process dies after it has committed');
        return result;
      },
      async turnOn(accountId, work) {
        alive();
        return await db.turnOn(accountId, work);
      },
      async statementOn<Row extends object>(
        accountId: string,
        statement: Statement,
        values: readonly unknown[],
      ) {
        const [before, after] = STATEMENTS[statement.name] ?? ALONE;
        point(before);
        const rows = await db.statementOn<Row>(accountId, statement, values);
        point(after);
        return rows;
      },
      close: () => db.close(),
    },
    isDead: () => dead,
    isSlow: () => delays.some((steps) => steps > 0),
    doom(points) {
      left = points;
    },
    doomByRefund(count) {
      refunds = count;
    },
    slow(steps) {
      delays = [...steps];
    },
  };
}

/** `target` with something else under one name; whatever else is called of it is its own. */
function instead<T extends object>(target: T, name: keyof T, other: (...args: unknown[]) => unknown): T;
function instead<T extends object, K extends keyof T>(target: T, name: K, other: T[K]): T;
function instead<T extends object>(target: T, name: keyof T, other: unknown): T {
  return new Proxy(target, {
    get: (_, key) => (key === name ? other : Reflect.get(target, key, target)),
  });
}

const nameOf = (statement: unknown): string =>
  statement instanceof Object && 'name' in statement ? String(statement.name) : '';

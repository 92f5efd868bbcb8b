import { randomUUID } from 'node:crypto';
import Stripe from 'stripe';
import { resourceMissing, StripeError } from './errors.ts';
import { type Hidden, hiddenIn } from './hidden.ts';
import { ID_PREFIX, type Kind, kindOfId, type StripeObjects } from './kinds.ts';
import { clockOf, ownerOf } from './owners.ts';
import { earliestFirst, type Queue } from './queue.ts';
import { openStore, type Store, type Stored } from './store.ts';

/** The API version of every object and event: the one the installed `stripe` package is pinned to. */
export const API_VERSION = Stripe.API_VERSION;

/** What an event tells besides its object. `previous` is computed by `change`. */
export type Snapshot = { readonly id?: string; readonly object: string };
type Reaction = (world: World, object: Snapshot) => void;
type Alarm = (world: World, id: string, at: number) => void;

interface WakeUp extends Stored {
  readonly at: number;
  readonly clock: string | null;
  readonly topic: string;
  readonly subject: string;
}

export interface WorldOptions {
  /** SQLite file, or ':memory:'. */
  readonly path: string;
  /** Real time in milliseconds. */
  readonly clock: () => number;
}

/**
 * The state of the local Stripe and the few ways to change it. Everything is synchronous: a request's changes
 * happen in one turn of the event loop inside `atomically`, so no two requests ever interleave.
 */
export interface World {
  readonly store: Store;
  /** Unix seconds now; on the test clock's time where the id of one is given. Never moves backwards. */
  now(testClock?: string | null): number;
  newId(kind: Kind): string;
  /** The object, or undefined. */
  find<K extends Kind>(kind: K, id: string): StripeObjects[K] | undefined;
  /** The object, or Stripe's 404 `resource_missing` naming `param`. */
  get<K extends Kind>(kind: K, id: string, param?: string): StripeObjects[K];
  /** Any object by its bare id, for `expand`. */
  findById(id: string): StripeObjects[Kind] | undefined;
  newestFirst<K extends Kind>(kind: K, after?: string): Iterable<StripeObjects[K]>;
  /** Objects whose `customer` is this one, oldest first. */
  ofCustomer<K extends Kind>(kind: K, customer: string): readonly StripeObjects[K][];
  /** Stores a new object and, when `event` is given, tells it. */
  add<K extends Kind>(kind: K, object: StripeObjects[K], event?: Stripe.Event['type']): StripeObjects[K];
  /**
   * Replaces the given fields. When `event` is given and something really changed, tells it with
   * `previous_attributes` holding the old values of exactly the fields that changed.
   */
  change<K extends Kind>(
    kind: K,
    id: string,
    fields: Partial<StripeObjects[K]>,
    event?: Stripe.Event['type'],
  ): StripeObjects[K];
  /** Tells an event about an object as it is now; reactions run first-come, in the same turn. */
  emit(
    type: Stripe.Event['type'],
    object: Snapshot,
    previous?: Readonly<Record<string, unknown>>,
  ): Stripe.Event;
  /** Runs `reaction` in the same turn whenever an event of this type is told (how invoices follow payments). */
  react(type: Stripe.Event['type'], reaction: Reaction): void;
  /** Calls `record` in the turn of every event, so that what it writes is on disk exactly when the event is. */
  withEvent(record: (event: Stripe.Event) => void): void;
  /** Calls whoever registered `onEvent` after the turn's changes are on disk: deliveries hang here. */
  onEvent(listener: (event: Stripe.Event) => void): void;
  /** Asks for `topic`'s alarm at a time of the given clock (null: the sandbox's own). Survives restarts. */
  wake(topic: string, subject: string, at: number, testClock: string | null): void;
  /** Drops the wake-ups of a subject under a topic. */
  forget(topic: string, subject: string): void;
  onWake(topic: string, alarm: Alarm): void;
  /** Lets the time of one clock run to `to` (unix seconds), ringing every alarm due on the way, in order. */
  runUntil(to: number, testClock: string | null): void;
  /** Moves the sandbox's own clock ahead of real time by so many seconds more. */
  skip(seconds: number): void;
  /** All or nothing; a StripeError with `keepsChanges` keeps. Events told inside go out after it. */
  atomically<T>(work: () => T): T;
  /** Marks the events told inside with the request's id and idempotency key, as Stripe does. */
  duringRequest<T>(request: { id: string; idempotencyKey: string | null }, work: () => T): T;
  /** Values Stripe never shows (webhook secrets, how a card behaves, faults), under a name of ours. */
  readonly hidden: Hidden;
  /** Forgets every object, event, wake-up and hidden value. */
  reset(): void;
  close(): void;
}

/** Opens the world on its store. Close it to release the file. */
export function openWorld(options: WorldOptions): World {
  const store = openStore(options.path, ownerOf);
  const reactions = new Map<string, Reaction[]>();
  const alarms = new Map<string, Alarm>();
  const recorders: ((event: Stripe.Event) => void)[] = [];
  const listeners: ((event: Stripe.Event) => void)[] = [];
  let told: Stripe.Event[] = [];
  let depth = 0;
  let request: { id: string; idempotencyKey: string | null } | null = null;
  /** While alarms ring, their clock stands at the time each was due, not at the end of the run. */
  const running = new Map<string | null, number>();

  const hidden = hiddenIn(store);
  const offset = (): number => hidden.get<{ seconds: number }>('clock', 'offset')?.seconds ?? 0;

  const world: World = {
    store,
    hidden,
    now(testClock = null) {
      const held = running.get(testClock);
      if (held !== undefined) return held;
      if (testClock === null) return Math.floor(options.clock() / 1000) + offset();
      return world.get('test_helpers.test_clock', testClock).frozen_time;
    },
    newId: (kind) => `${ID_PREFIX[kind]}_${randomHex(kind === 'checkout.session' ? 48 : 24)}`,
    // The store is keyed by kind, so what is found under a kind has its type.
    find: <K extends Kind>(kind: K, id: string) => store.get(kind, id) as StripeObjects[K] | undefined,
    get(kind, id, param) {
      const found = world.find(kind, id);
      if (found === undefined)
        throw resourceMissing(kind === 'payment_method' ? 'PaymentMethod' : kind, id, param);
      return found;
    },
    findById(id) {
      const kind = kindOfId(id);
      return kind === null ? undefined : world.find(kind, id);
    },
    newestFirst: <K extends Kind>(kind: K, after?: string) =>
      store.newestFirst(kind, after) as Iterable<StripeObjects[K]>,
    ofCustomer: <K extends Kind>(kind: K, customer: string) =>
      store.ownedBy(kind, customer) as readonly StripeObjects[K][],
    add(kind, object, event) {
      store.put(kind, object);
      if (event) world.emit(event, object);
      return object;
    },
    change(kind, id, fields, event) {
      const before = world.get(kind, id);
      const after = { ...before, ...fields };
      store.put(kind, after);
      const previous = changedFields(before, fields);
      if (event && previous !== null) world.emit(event, after, previous);
      return after;
    },
    emit(type, object, previous) {
      const event = {
        id: world.newId('event'),
        object: 'event',
        api_version: API_VERSION,
        created: world.now(clockOf(world, object)),
        data: { object, ...(previous ? { previous_attributes: previous } : {}) },
        livemode: false,
        pending_webhooks: 0,
        request: { id: request?.id ?? null, idempotency_key: request?.idempotencyKey ?? null },
        type,
        // Event is a union over 250 types whose members differ in `data` alone; the pair (type, object) is the
        // caller's, and the recorded events are checked against the SDK's types in the tests.
      } as unknown as Stripe.Event;
      store.put('event', event);
      for (const record of recorders) record(event);
      // Before the reactions, so that what they tell goes out after its cause.
      told.push(event);
      for (const reaction of reactions.get(type) ?? []) reaction(world, object);
      if (depth === 0) tellAll();
      return event;
    },
    react(type, reaction) {
      reactions.set(type, [...(reactions.get(type) ?? []), reaction]);
    },
    withEvent: (record) => void recorders.push(record),
    onEvent: (listener) => void listeners.push(listener),
    wake(topic, subject, at, testClock) {
      const id = `${topic} ${subject}`;
      const wakeUp: WakeUp = { id, at, clock: testClock, topic, subject };
      store.put('wake_up', wakeUp);
      queueOf(testClock).push(wakeUp);
    },
    forget: (topic, subject) => store.remove('wake_up', `${topic} ${subject}`),
    onWake: (topic, alarm) => void alarms.set(topic, alarm),
    runUntil(to, testClock) {
      const queue = queueOf(testClock);
      for (let due = queue.peek(); due && due.at <= to; due = queue.peek()) {
        queue.pop();
        // A wake-up that was moved or forgotten leaves its old entry in the queue; the store knows the truth.
        if (store.get('wake_up', due.id) !== due) continue;
        const { topic, subject, at } = due;
        running.set(testClock, at);
        try {
          world.atomically(() => {
            store.remove('wake_up', due.id);
            const alarm = alarms.get(topic);
            if (!alarm) throw new Error(`nothing answers wake-ups of ${topic}`);
            alarm(world, subject, at);
          });
        } finally {
          running.delete(testClock);
        }
      }
    },
    skip(seconds) {
      hidden.put('clock', 'offset', { seconds: offset() + seconds });
    },
    atomically(work) {
      depth++;
      try {
        return store.atomically(
          work,
          (error) => error instanceof StripeError && error.fields.keepsChanges === true,
        );
      } catch (error) {
        if (depth === 1 && !(error instanceof StripeError && error.fields.keepsChanges)) {
          told = [];
          rebuildQueues();
        }
        throw error;
      } finally {
        depth--;
        if (depth === 0) tellAll();
      }
    },
    duringRequest(current, work) {
      request = current;
      try {
        return work();
      } finally {
        request = null;
      }
    },
    reset() {
      store.clear();
      rebuildQueues();
    },
    close: () => store.close(),
  };

  const queues = new Map<string | null, Queue<WakeUp>>();
  const queueOf = (clock: string | null): Queue<WakeUp> => {
    let queue = queues.get(clock);
    if (!queue) {
      queue = earliestFirst<WakeUp>();
      queues.set(clock, queue);
    }
    return queue;
  };
  const rebuildQueues = (): void => {
    queues.clear();
    for (const wakeUp of store.oldestFirst('wake_up'))
      queueOf((wakeUp as WakeUp).clock).push(wakeUp as WakeUp);
  };
  const tellAll = (): void => {
    const events = told;
    told = [];
    for (const event of events) for (const listener of listeners) listener(event);
  };

  rebuildQueues();
  return world;
}

/** So many random hex digits; randomUUID takes its entropy in bulk, many times faster than single randomBytes. */
function randomHex(digits: number): string {
  let hex = '';
  while (hex.length < digits) hex += randomUUID().replaceAll('-', '').slice(0, 24);
  return hex.slice(0, digits);
}

/** The old values of what changed, or null where nothing did. What was not there before has no old value. */
function changedFields<T extends object>(before: T, fields: Partial<T>): Record<string, unknown> | null {
  let changed = false;
  const previous: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const old = (before as Record<string, unknown>)[name];
    if (JSON.stringify(old) === JSON.stringify(value)) continue;
    changed = true;
    if (old !== undefined) previous[name] = old;
  }
  return changed ? previous : null;
}

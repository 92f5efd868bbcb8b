import { randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import { withFirstLines } from './billing/first-lines.ts';
import type { Stored } from './disk.ts';
import { resourceMissing, StripeError } from './errors.ts';
import { hiddenIn } from './hidden.ts';
import { ID_PREFIX, type Kind, kindOfId, type StripeObjects } from './kinds.ts';
import { clockOf, ownerOf } from './owners.ts';
import { earliestFirst, type Queue } from './queue.ts';
import { openStore } from './store.ts';
import { type Alarm, API_VERSION, type Reaction, type World } from './world.ts';

export interface WorldOptions {
  /** SQLite file, or ':memory:'. */
  readonly path: string;
  /** Real time in milliseconds. */
  readonly clock: () => number;
}

interface WakeUp extends Stored {
  readonly at: number;
  readonly clock: string | null;
  readonly topic: string;
  readonly subject: string;
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
        data: { object: withFirstLines(object), ...(previous ? { previous_attributes: previous } : {}) },
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
    nextWake: (testClock) => nextIn(queueOf(testClock))?.at ?? null,
    runUntil(to, testClock) {
      const queue = queueOf(testClock);
      for (let due = nextIn(queue); due && due.at <= to; due = nextIn(queue)) {
        queue.pop();
        const { topic, subject, at } = due;
        running.set(testClock, at);
        try {
          world.atomically(() => {
            store.remove('wake_up', `${topic} ${subject}`);
            const alarm = alarms.get(topic);
            if (!alarm) throw new Error(`nothing answers wake-ups of ${topic}`);
            alarm(world, subject, at);
          });
        } finally {
          running.delete(testClock);
        }
      }
    },
    aheadSeconds: offset,
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
  const nextIn = (queue: Queue<WakeUp>): WakeUp | undefined => {
    // A wake-up that was moved or forgotten leaves its old entry in the queue; the store knows the truth.
    let due = queue.peek();
    for (; due && store.get('wake_up', due.id) !== due; due = queue.peek()) queue.pop();
    return due;
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

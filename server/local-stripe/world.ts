import Stripe from 'stripe';
import type { Hidden } from './hidden.ts';
import type { Kind, StripeObjects } from './kinds.ts';
import type { Store } from './store.ts';

/** The API version of every object and event: the one the installed `stripe` package is pinned to. */
export const API_VERSION = Stripe.API_VERSION;

/** What an event tells besides its object. `previous` is computed by `change`. */
export type Snapshot = { readonly id?: string; readonly object: string };
export type Reaction = (world: World, object: Snapshot) => void;
export type Alarm = (world: World, id: string, at: number) => void;

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
  /** Asks for `topic`'s alarm at a time of the given clock (null: the local Stripe's own). Survives restarts. */
  wake(topic: string, subject: string, at: number, testClock: string | null): void;
  /** Drops the wake-ups of a subject under a topic. */
  forget(topic: string, subject: string): void;
  onWake(topic: string, alarm: Alarm): void;
  /** When the next alarm of a clock is due, in unix seconds; null where none is. */
  nextWake(testClock: string | null): number | null;
  /** Lets the time of one clock run to `to` (unix seconds), ringing every alarm due on the way, in order. */
  runUntil(to: number, testClock: string | null): void;
  /** Moves the local Stripe's own clock ahead of real time by so many seconds more. */
  skip(seconds: number): void;
  /** How many seconds the local Stripe's own clock is ahead of real time. */
  aheadSeconds(): number;
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

import { defineEntity, type InferEntity, p } from '@mikro-orm/postgresql';
import type { AuditActorType } from '../../../shared/audit.ts';
import { Account } from './account.ts';
import { APPEND_ONLY } from './append-only.ts';

/**
 * An event of Stripe, stored before it was acknowledged. No foreign key to the account: checking one would
 * take a share of the account's lock and so make Stripe wait for whoever holds it.
 */
export const StripeEvent = defineEntity({
  name: 'StripeEvent',
  properties: {
    /** Stripe's id, `evt_…`. */
    id: p.text().primary(),
    accountId: p.uuid().nullable(),
    type: p.text(),
    /** Null where the event is about nothing that has an id. */
    objectId: p.text().nullable(),
    customerId: p.text().nullable(),
    livemode: p.boolean(),
    apiVersion: p.text().nullable(),
    /** When Stripe says it happened; to the second. */
    createdAt: p.datetime(3),
    /** The body exactly as it was signed. */
    raw: p.blob().$type<Buffer>(),
    state: p.enum(['received', 'done', 'ignored', 'dead']),
    attempts: p.integer().default(0),
    error: p.text().nullable(),
    receivedAt: p.datetime(3),
    processedAt: p.datetime(3).nullable(),
    /**
     * When its account is to be found out, by the clock of the database; null once it is known or there is none. At
     * once for whoever inserts a row without it, as a version before this one does beside us.
     */
    dueAt: p.datetime(3).nullable().defaultRaw('now()'),
    lease: p.uuid().nullable(),
    leasedUntil: p.datetime(3).nullable(),
  },
  indexes: [
    { name: 'stripe_event_due', properties: ['dueAt'], where: 'due_at is not null' },
    { name: 'stripe_event_account', properties: ['accountId', 'receivedAt'] },
    { name: 'stripe_event_pending_account', properties: ['accountId'], where: "state = 'received'" },
    { name: 'stripe_event_pending_customer', properties: ['customerId'], where: "state = 'received'" },
    { name: 'stripe_event_pending', properties: ['receivedAt'], where: "state = 'received'" },
    { name: 'stripe_event_dead', properties: ['receivedAt'], where: "state = 'dead'" },
  ],
});
export type StripeEvent = InferEntity<typeof StripeEvent>;

/** One fact in the audit log, chained to the one before by its hash. */
export const AuditEntry = defineEntity({
  name: 'AuditEntry',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id'),
    /** 1, 2, 3 … within the account. */
    position: p.bigint('number'),
    /** Names the fact, so that it is written once. */
    dedupeKey: p.text().unique(),
    actorType: p.text().$type<AuditActorType>(),
    actorAccountId: p.uuid().nullable(),
    actorKeyId: p.uuid().nullable(),
    action: p.text(),
    targetResourceId: p.text().nullable(),
    payload: p.json<Record<string, unknown>>(),
    occurredAt: p.datetime(3),
    prevHash: p.blob().$type<Buffer>().nullable(),
    hash: p.blob().$type<Buffer>(),
  },
  uniques: [{ name: 'audit_entry_position', properties: ['accountId', 'position'] }],
  // With the moment at their ends, so that a filter by time reads the rows of its page and no others.
  indexes: [
    { name: 'audit_entry_time', properties: ['accountId', 'position', 'occurredAt'] },
    { name: 'audit_entry_action', properties: ['accountId', 'action', 'position', 'occurredAt'] },
  ],
  triggers: [APPEND_ONLY],
});
export type AuditEntry = InferEntity<typeof AuditEntry>;

/** A mail to send, once per natural key. */
export const Email = defineEntity({
  name: 'Email',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').index(),
    naturalKey: p.text().unique(),
    template: p.text(),
    toAddress: p.text(),
    data: p.json<unknown>(),
    state: p.enum(['pending', 'sent', 'parked', 'not_configured']),
    attempts: p.integer().default(0),
    /** The provider's id of the mail. */
    providerId: p.text().nullable(),
    createdAt: p.datetime(3),
    /** When the first attempt began: from here on the mail may have gone out. */
    firstAttemptAt: p.datetime(3).nullable(),
    sentAt: p.datetime(3).nullable(),
    error: p.text().nullable(),
    /** When it is to be sent, by the clock of the database; null where it is not to be. */
    dueAt: p.datetime(3).nullable().defaultRaw('now()'),
    lease: p.uuid().nullable(),
    leasedUntil: p.datetime(3).nullable(),
    /** The batch it was or may have been sent with; the provider knows the batch by this id. */
    batchId: p.uuid().nullable().index(),
    /** Never sent with others; so for whoever inserts a row without it, which may be sending it too. */
    alone: p.boolean().default(true),
  },
  indexes: [
    { name: 'email_due', properties: ['dueAt'], where: 'due_at is not null' },
    { name: 'email_unsent', properties: ['createdAt'], where: "state in ('pending', 'parked')" },
  ],
});
export type Email = InferEntity<typeof Email>;

/** A task that one process of several does from time to time, and where it stands. */
export const RecurringTask = defineEntity({
  name: 'RecurringTask',
  properties: {
    name: p.text().primary(),
    /** From here on anybody may take the next turn; whoever takes it moves this ahead. */
    nextRunAt: p.datetime(3),
    /** What the task has reached; parse it when reading. */
    progress: p.json<unknown>(),
  },
});
export type RecurringTask = InferEntity<typeof RecurringTask>;

/** How fast we may call somebody who counts the calls of all our processes together. */
export const Pace = defineEntity({
  name: 'Pace',
  properties: {
    /** Whom we call. */
    name: p.text().primary(),
    /** When the next call may be made, by the clock of the database. */
    freeAt: p.datetime(3),
  },
});
export type Pace = InferEntity<typeof Pace>;

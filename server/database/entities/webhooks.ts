import { defineEntity, type InferEntity, p } from '@mikro-orm/postgresql';
import type { EventType } from '../../../shared/events.ts';
import { Account } from './account.ts';
import { APPEND_ONLY } from './append-only.ts';

/** A fact that customers are told of, at its place in the feed of its account. */
export const BillingEvent = defineEntity({
  name: 'BillingEvent',
  tableName: 'event',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id'),
    /** 1, 2, 3 … within the account, without gaps. */
    sequence: p.bigint('number'),
    type: p.text().$type<EventType>(),
    data: p.json<Record<string, unknown>>(),
    /** Names the fact, so that it is told once. */
    dedupeKey: p.text().unique(),
    emittedAt: p.datetime(3),
  },
  uniques: [{ name: 'event_sequence', properties: ['accountId', 'sequence'] }],
  triggers: [APPEND_ONLY],
});
export type BillingEvent = InferEntity<typeof BillingEvent>;

/** An endpoint whose last tries took as long is slow, whatever came of them. */
export const SLOW_MS = 1_000;

/** Where an account wants its events sent. Its row is leased by whoever delivers to it. */
export const WebhookEndpoint = defineEntity({
  name: 'WebhookEndpoint',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').index(),
    /** Orders the endpoints of an account. */
    position: p.bigint('number'),
    url: p.text(),
    description: p.text().nullable(),
    events: p.array().$type<EventType[]>(),
    active: p.boolean().default(true),
    /** Encrypted by `seal`. */
    secret: p.blob().$type<Buffer>(),
    secretPrefix: p.text(),
    /** The secret before the last rotation, which signs as well until the grace ends. */
    prevSecret: p.blob().$type<Buffer>().nullable(),
    prevSecretPrefix: p.text().nullable(),
    rotationGraceExpiresAt: p.datetime(3).nullable(),
    consecutiveFailures: p.integer().default(0),
    /** The first failure since the last success. */
    failingSince: p.datetime(3).nullable(),
    lastSuccessAt: p.datetime(3).nullable(),
    lastFailureAt: p.datetime(3).nullable(),
    disabledAt: p.datetime(3).nullable(),
    deletedAt: p.datetime(3).nullable(),
    createdAt: p.datetime(3),
    /** Not later than the next try of any of its deliveries; null while there is none to come. */
    nextDueAt: p.datetime(3).nullable(),
    /** Until then nothing is sent, because the endpoint asked for it. */
    heldUntil: p.datetime(3).nullable(),
    /** Who delivers to it now; void when `leasedUntil` has passed. */
    leaseId: p.uuid().nullable(),
    leasedUntil: p.datetime(3).nullable(),
    /** How long its last tries took: the latest, or half of what it was before where that is more. */
    paceMs: p.integer().default(0),
    /** When it was last taken to be delivered to; null for never. */
    servedAt: p.datetime(3).nullable(),
    /** How many deliveries arrived, failed and are tried again, were given up: kept up to date as they do. */
    deliveredCount: p.bigint('number').default(0),
    failedCount: p.bigint('number').default(0),
    dlqCount: p.bigint('number').default(0),
  },
  indexes: [
    { name: 'webhook_endpoint_due', properties: ['nextDueAt'], where: 'active and deleted_at is null' },
    {
      name: 'webhook_endpoint_paused',
      properties: ['accountId'],
      where: 'not active and deleted_at is null',
    },
  ],
});
export type WebhookEndpoint = InferEntity<typeof WebhookEndpoint>;

/** One event on its way to one endpoint. */
export const WebhookDelivery = defineEntity({
  name: 'WebhookDelivery',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id'),
    endpointId: () => p.manyToOne(WebhookEndpoint).mapToPk().fieldName('endpoint_id'),
    /** Orders the deliveries of an account, and so those of an endpoint. */
    position: p.bigint('number'),
    /** A test has an id of its own, which names no event. */
    eventId: p.uuid(),
    eventType: p.text(),
    state: p.enum(['pending', 'in_flight', 'delivered', 'failed', 'dlq']),
    /** The delivery that this one repeats. */
    replayOf: p.uuid().nullable(),
    attempts: p.integer().default(0),
    /** Null once there is none to come. */
    nextAttemptAt: p.datetime(3).nullable(),
    lastAttemptAt: p.datetime(3).nullable(),
    responseStatus: p.integer().nullable(),
    /** The beginning of what was answered. */
    responseExcerpt: p.text().nullable(),
    error: p.text().nullable(),
    durationMs: p.integer().nullable(),
    deliveredAt: p.datetime(3).nullable(),
    createdAt: p.datetime(3),
  },
  uniques: [{ name: 'webhook_delivery_position', properties: ['accountId', 'position'] }],
  indexes: [
    { name: 'webhook_delivery_state', properties: ['endpointId', 'state', 'position'] },
    { name: 'webhook_delivery_list', properties: ['endpointId', 'position'] },
    {
      name: 'webhook_delivery_open',
      properties: ['endpointId', 'position'],
      where: "state in ('pending', 'in_flight', 'failed')",
    },
    { name: 'webhook_delivery_dead', properties: ['endpointId', 'eventId'], where: "state = 'dlq'" },
  ],
});
export type WebhookDelivery = InferEntity<typeof WebhookDelivery>;

import { defineEntity, type InferEntity, p } from '@mikro-orm/postgresql';
import type { Scope } from '../../../shared/scopes.ts';

/** A customer. Its row is the lock behind which everything that belongs to the account is changed. */
export const Account = defineEntity({
  name: 'Account',
  properties: {
    id: p.uuid().primary(),
    /** In lower case. */
    email: p.text().unique(),
    stripeCustomerId: p.text().nullable().unique(),
    /** The address that Stripe's customer was last seen with: what differs from it was changed there. */
    stripeEmail: p.text().nullable(),
    /** Counts the Stripe customers this account has had; part of the idempotency key that creates one. */
    stripeCustomerGeneration: p.integer().default(0),
    receiptEmails: p.boolean().default(true),
    tierChangeEmails: p.boolean().default(true),
    renewalEmails: p.boolean().default(true),
    /** Position and hash of the newest audit entry; written by `append` alone. */
    auditPosition: p.bigint('number').default(0),
    auditHash: p.blob().$type<Buffer>().nullable(),
    /** The place of the newest event in the feed. */
    eventSequence: p.bigint('number').default(0),
    /** The position of the newest webhook endpoint or delivery. */
    webhookPosition: p.bigint('number').default(0),
    createdAt: p.datetime(3),
  },
});
export type Account = InferEntity<typeof Account>;

/**
 * A customer that an account had and Stripe has deleted: payments made for it before are still given back,
 * disputed and settled, and belong to the account for ever.
 */
export const FormerStripeCustomer = defineEntity({
  name: 'FormerStripeCustomer',
  properties: {
    stripeCustomerId: p.text().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').index(),
    /** When we heard of its end. */
    since: p.datetime(3),
  },
});
export type FormerStripeCustomer = InferEntity<typeof FormerStripeCustomer>;

/** A bearer key. Only the hash of its text is kept. */
export const ApiKey = defineEntity({
  name: 'ApiKey',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').index(),
    /** SHA-256 of the whole text of the key. */
    hash: p.blob().$type<Buffer>().unique(),
    /** The first characters of the key, to tell keys apart in a list. */
    prefix: p.text(),
    scopes: p.array().$type<Scope[]>(),
    name: p.text(),
    createdAt: p.datetime(3),
    expiresAt: p.datetime(3).nullable(),
    revokedAt: p.datetime(3).nullable(),
  },
  checks: [{ name: 'api_key_hash_is_sha256', expression: 'octet_length(hash) = 32' }],
});
export type ApiKey = InferEntity<typeof ApiKey>;

/** The answer to a minting call, kept under the Idempotency-Key of the caller. */
export const IdempotencyKey = defineEntity({
  name: 'IdempotencyKey',
  properties: {
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').primary(),
    key: p.text().primary(),
    route: p.text(),
    /** SHA-256 of the request, to notice the same key on another one. */
    requestHash: p.blob().$type<Buffer>(),
    state: p.enum(['running', 'done']),
    status: p.integer().nullable(),
    response: p.json<Record<string, unknown>>().nullable(),
    /** After this a running call counts as dead and its key can be taken over. */
    lockedUntil: p.datetime(3),
    createdAt: p.datetime(3).index(),
  },
  checks: [
    {
      name: 'idempotency_key_done_has_answer',
      expression: "state <> 'done' or (status is not null and response is not null)",
    },
  ],
});
export type IdempotencyKey = InferEntity<typeof IdempotencyKey>;

/**
 * Whether an account has to be looked at at Stripe. Whoever hears of something raises `wanted`; a pass remembers it
 * before it reads, and writes it to `done` with what it found. So the account stays due where something was heard of
 * in between.
 */
export const AccountSync = defineEntity({
  name: 'AccountSync',
  properties: {
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').primary(),
    wanted: p.bigint('number').default(0),
    done: p.bigint('number').default(0),
    /** By the clock of the database, as all of these; null for nothing to do. */
    dueAt: p.datetime(3).nullable(),
    lease: p.uuid().nullable(),
    leasedUntil: p.datetime(3).nullable(),
    /** How many passes in a row came to nothing. */
    attempts: p.integer().default(0),
    /** Why the last one did. */
    reason: p.text().nullable(),
  },
  indexes: [{ name: 'account_sync_due', properties: ['dueAt'], where: 'due_at is not null' }],
});
export type AccountSync = InferEntity<typeof AccountSync>;

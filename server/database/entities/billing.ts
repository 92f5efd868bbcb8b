import { defineEntity, type InferEntity, p } from '@mikro-orm/postgresql';
import type { SubscriptionStatus } from '../../../shared/billing.ts';
import type { BillingPeriod, Tier } from '../../../shared/catalog.ts';
import { Account } from './account.ts';

/** What Stripe holds for the account, as last read: one row, kept after the subscription has ended. */
export const Subscription = defineEntity({
  name: 'Subscription',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').unique(),
    stripeSubscriptionId: p.text().unique(),
    tier: p.text().$type<Tier>(),
    /** The plan that a booked change leads to, and when: all three or none. */
    pendingTier: p.text().$type<Tier>().nullable(),
    pendingBillingPeriod: p.text().$type<BillingPeriod>().nullable(),
    pendingChangesAt: p.datetime(3).nullable(),
    status: p.text().$type<SubscriptionStatus>(),
    billingPeriod: p.text().$type<BillingPeriod>(),
    currentPeriodStart: p.datetime(3),
    currentPeriodEnd: p.datetime(3),
    /** Whether `endsAt` is set: what is documented for callers. */
    cancelAtPeriodEnd: p.boolean(),
    /** When it will end by itself. */
    endsAt: p.datetime(3).nullable(),
    /** When it ended; null also where Stripe did not say, and in rows older than this column. */
    endedAt: p.datetime(3).nullable(),
    /** Counts the changes of this row; part of the natural keys of what follows from one. */
    version: p.integer(),
    entitled: p.boolean(),
    updatedAt: p.datetime(3),
  },
});
export type Subscription = InferEntity<typeof Subscription>;

/** The tier and period of a Stripe price, remembered since it was first seen: lookup keys move, this does not. */
export const Price = defineEntity({
  name: 'Price',
  properties: {
    stripePriceId: p.text().primary(),
    tier: p.text().$type<Tier>(),
    billingPeriod: p.text().$type<BillingPeriod>(),
    firstSeenAt: p.datetime(3),
  },
});
export type Price = InferEntity<typeof Price>;

/** A Stripe price that is or was the trial pack's, remembered like those of the tiers. */
export const TrialPackPrice = defineEntity({
  name: 'TrialPackPrice',
  properties: {
    stripePriceId: p.text().primary(),
    firstSeenAt: p.datetime(3),
  },
});
export type TrialPackPrice = InferEntity<typeof TrialPackPrice>;

const OPEN_STATES = "state in ('creating', 'open', 'closing', 'awaiting_payment')";

/** One intent to sell. Its id is the idempotency key at Stripe, so every step of it can be repeated by anyone. */
export const CheckoutAttempt = defineEntity({
  name: 'CheckoutAttempt',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').index(),
    kind: p.enum(['subscription', 'trial_pack']),
    state: p.enum(['creating', 'open', 'closing', 'awaiting_payment', 'completed', 'expired']),
    /** What Stripe was or will be sent; parse it when reading. */
    params: p.json<unknown>(),
    paramsHash: p.blob().$type<Buffer>(),
    expiresAt: p.datetime(3),
    stripeSessionId: p.text().nullable().unique(),
    createdAt: p.datetime(3),
    updatedAt: p.datetime(3),
  },
  uniques: [{ name: 'checkout_attempt_one_open', properties: ['accountId', 'kind'], where: OPEN_STATES }],
});
export type CheckoutAttempt = InferEntity<typeof CheckoutAttempt>;

/** The one trial pack an account can ever have. */
export const TrialPack = defineEntity({
  name: 'TrialPack',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(Account).mapToPk().fieldName('account_id').unique(),
    /** The Checkout session it was bought in, or where there was none the invoice. */
    stripeSessionId: p.text().unique(),
    paymentIntent: p.text().unique(),
    state: p.enum(['active', 'suspended', 'revoked', 'expired']),
    redeemedAt: p.datetime(3),
    expiresAt: p.datetime(3),
    /** Concurrent-seconds; 200 of them for each cent. */
    grantedSeconds: p.integer(),
    /** The sum of the entries, changed with each of them in one statement. */
    remainingSeconds: p.integer(),
    /** The sum of the reservations that nobody has closed, those that are over their time included. */
    heldSeconds: p.integer().default(0),
    /** The position of the newest entry. */
    entryCount: p.integer().default(0),
    /** When a tenth of the grant or less was left for the first time. */
    nearlyUsedAt: p.datetime(3).nullable(),
    /** When its end, or the notice of it, is to be looked after; null once it is over. */
    dueAt: p.datetime(3).nullable(),
    version: p.integer(),
  },
  checks: [
    {
      name: 'trial_pack_balance',
      expression: 'remaining_seconds >= 0 and remaining_seconds <= granted_seconds',
    },
    { name: 'trial_pack_held', expression: 'held_seconds >= 0' },
  ],
  indexes: [{ name: 'trial_pack_due', properties: ['dueAt'], where: 'due_at is not null' }],
});
export type TrialPack = InferEntity<typeof TrialPack>;

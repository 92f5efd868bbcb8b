import { defineEntity, type InferEntity, p } from '@mikro-orm/postgresql';
import { APPEND_ONLY } from './append-only.ts';
import { TrialPack } from './billing.ts';

/** How credit stood after use was reported or credit was reserved; the words are those of `shared/internal.ts`. */
const OUTCOMES = ['active', 'held', 'used_up', 'suspended', 'expired', 'revoked'] as const;
export type CreditOutcome = (typeof OUTCOMES)[number];

/**
 * The ledger of trial-pack credit: the sum of a pack's entries is its balance, always. Entries and reservations
 * name the pack and not the account's row: a foreign key to that row would wait for whoever has locked it to
 * read from Stripe, while holding the pack that they need next.
 */
export const CreditEntry = defineEntity({
  name: 'CreditEntry',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(TrialPack).mapToPk().targetKey('accountId').fieldName('account_id'),
    /** 1, 2, 3 … within the account. */
    position: p.integer(),
    kind: p.enum(['grant', 'use', 'expire', 'revoke', 'reinstate']),
    /** Concurrent-seconds, negative where credit goes. */
    seconds: p.integer(),
    /** The balance after this entry. */
    balanceSeconds: p.integer(),
    /** Names the fact, so that it is entered once. */
    reportKey: p.text().unique(),
    /** What was reported, where this is use. */
    sessionId: p.text().nullable(),
    requestedSeconds: p.integer().nullable(),
    usedAt: p.datetime(3).nullable(),
    outcome: p.enum(OUTCOMES).nullable(),
    createdAt: p.datetime(3),
  },
  uniques: [{ name: 'credit_entry_position', properties: ['accountId', 'position'] }],
  checks: [
    { name: 'credit_entry_balance', expression: 'balance_seconds >= 0' },
    {
      name: 'credit_entry_use',
      expression:
        "kind <> 'use' or (session_id is not null and used_at is not null and outcome is not null and requested_seconds is not null and seconds <= 0 and seconds + requested_seconds >= 0)",
    },
  ],
  triggers: [APPEND_ONLY],
});
export type CreditEntry = InferEntity<typeof CreditEntry>;

/** Credit that a session is about to spend: nobody else can, until it is closed or its time is over. */
export const CreditReservation = defineEntity({
  name: 'CreditReservation',
  properties: {
    id: p.uuid().primary(),
    accountId: () => p.manyToOne(TrialPack).mapToPk().targetKey('accountId').fieldName('account_id'),
    /** The runtime's name for it. */
    reservationKey: p.text().unique(),
    sessionId: p.text(),
    requestedSeconds: p.integer(),
    forSeconds: p.integer(),
    heldSeconds: p.integer(),
    outcome: p.enum(OUTCOMES),
    state: p.enum(['held', 'settled', 'released', 'lapsed']),
    createdAt: p.datetime(3),
    expiresAt: p.datetime(3),
  },
  indexes: [{ name: 'credit_reservation_held', properties: ['accountId'], where: "state = 'held'" }],
  checks: [
    {
      name: 'credit_reservation_held_seconds',
      expression: 'held_seconds >= 0 and held_seconds <= requested_seconds',
    },
  ],
});
export type CreditReservation = InferEntity<typeof CreditReservation>;

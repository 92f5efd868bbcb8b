import { z } from 'zod';
import { scopeSchema } from './scopes.ts';
import { wireTimeSchema } from './time.ts';

/**
 * What the programs of the operator may call with the service token, over tRPC at `/internal/trpc`. The session
 * runtime spends trial-pack credit through it, and the main API opens accounts and keys. Never in the public
 * document. Seconds are concurrent-seconds: 200 of them are one US cent, so nothing is ever rounded.
 */
const MAX_SECONDS = 1_000_000;
const MAX_HOLD_SECONDS = 86_400;

/** How credit stands: `held` means that reservations hold all that is left, `none` that no pack was bought. */
export const CREDIT_STATUSES = [
  'none',
  'active',
  'held',
  'used_up',
  'suspended',
  'expired',
  'revoked',
] as const;
export type CreditStatus = (typeof CREDIT_STATUSES)[number];

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const accountId = z.string().regex(new RegExp(`^acc_${UUID}$`), 'must be the id of an account, acc_…');
const keyId = z.string().regex(new RegExp(`^key_${UUID}$`), 'must be the id of an API key, key_…');
const status = z.enum(CREDIT_STATUSES);
const wireSeconds = z.int().min(0);

/** A name the runtime gives. Names of reports and of reservations are each unique over all accounts. */
const runtimeId = z
  .string()
  .regex(/^[\x21-\x7e]{1,128}$/, 'must be 1 to 128 printable ASCII characters without white space');

const seconds = z.int().min(1).max(MAX_SECONDS);

/** UTC, with or without milliseconds. */
const usedAt = z.iso
  .datetime({ error: 'must be a time in UTC such as 2026-05-01T00:00:00Z' })
  .transform((text) => new Date(text));

/** The input of `credit.reportUse`. The same `report_id` with the same content is answered as the first time. */
export const reportUseInput = z.strictObject({
  account_id: accountId,
  report_id: runtimeId,
  session_id: runtimeId,
  seconds,
  /** When it was used: not before the pack was paid for, and not in the future. */
  used_at: usedAt,
});
export type ReportUseInput = z.output<typeof reportUseInput>;

/** What became of reported use. Less is accepted than was reported when the credit does not cover it. */
export const useResult = z.strictObject({
  accepted_seconds: wireSeconds,
  /** What can be spent after this report, the part that reservations hold included; 0 unless it can be spent. */
  remaining_seconds: wireSeconds,
  status,
  /** True from the report on that took the last of it: end the sessions. */
  used_up: z.boolean(),
});
export type UseResult = z.output<typeof useResult>;

/** The input of `credit.reserve`. */
export const reserveInput = z.strictObject({
  account_id: accountId,
  reservation_id: runtimeId,
  session_id: runtimeId,
  seconds,
  /** After this the credit is free again, whatever became of the runtime. Never beyond the end of the pack. */
  hold_seconds: z.int().min(1).max(MAX_HOLD_SECONDS),
});
export type ReserveInput = z.output<typeof reserveInput>;

/** What is held: as much of what was asked for as was free. With 0 the session must not start. */
export const reserveResult = z.strictObject({
  reserved_seconds: wireSeconds,
  expires_at: wireTimeSchema.nullable(),
  status,
});
export type ReserveResult = z.output<typeof reserveResult>;

/** The input of `credit.settle`: what a session used of what it had reserved, once. More is taken if it is free. */
export const settleInput = z.strictObject({
  account_id: accountId,
  reservation_id: runtimeId,
  seconds,
  used_at: usedAt,
});
export type SettleInput = z.output<typeof settleInput>;

/** The input of `credit.release`: nothing was used. */
export const releaseInput = z.strictObject({ account_id: accountId, reservation_id: runtimeId });
export type ReleaseInput = z.output<typeof releaseInput>;

/** How much this call, or the first of its like, set free; 0 when the time of the reservation was over. */
export const releaseResult = z.strictObject({ released_seconds: wireSeconds });
export type ReleaseResult = z.output<typeof releaseResult>;

/** The input of `credit.balance`. */
export const balanceInput = z.strictObject({ account_id: accountId });
export type BalanceInput = z.output<typeof balanceInput>;

/** The credit of an account at this moment, by the clock of the database. */
export const balanceResult = z.strictObject({
  status,
  granted_seconds: wireSeconds,
  /** What can be spent, the held part included. */
  remaining_seconds: wireSeconds,
  /** What reservations hold of it. */
  held_seconds: wireSeconds,
  /** What can be reserved or reported without a reservation. */
  free_seconds: wireSeconds,
  expires_at: wireTimeSchema.nullable(),
});
export type BalanceResult = z.output<typeof balanceResult>;

/** The input of `accounts.create` and `accounts.find`. */
export const accountInput = z.strictObject({ email: z.string().max(254) });
export type AccountInput = z.output<typeof accountInput>;

export const accountResult = z.strictObject({ account_id: z.string(), email: z.string() });
export type AccountResult = z.output<typeof accountResult>;

/** The input of `keys.issue`. */
export const issueKeyInput = z.strictObject({
  account_id: accountId,
  name: z.string().min(1).max(100),
  scopes: z.array(scopeSchema).min(1).max(10).default(['account_owner']),
  expires_at: z.iso
    .datetime({ error: 'must be a time in UTC such as 2027-01-31T00:00:00Z' })
    .transform((text) => new Date(text))
    .nullable()
    .default(null),
});
export type IssueKeyInput = z.output<typeof issueKeyInput>;

/** The key is shown this once. */
export const issueKeyResult = z.strictObject({ api_key_id: z.string(), api_key: z.string() });
export type IssueKeyResult = z.output<typeof issueKeyResult>;

/** The input of `keys.revoke`. */
export const revokeKeyInput = z.strictObject({ api_key_id: keyId });
export type RevokeKeyInput = z.output<typeof revokeKeyInput>;

/** False when the key had been revoked before. */
export const revokeKeyResult = z.strictObject({ revoked_now: z.boolean() });
export type RevokeKeyResult = z.output<typeof revokeKeyResult>;

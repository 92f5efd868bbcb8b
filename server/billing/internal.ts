import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import type {
  AccountResult,
  BalanceResult,
  IssueKeyInput,
  IssueKeyResult,
  ReleaseResult,
  ReserveResult,
  RevokeKeyResult,
  UseResult,
} from '../../shared/internal.ts';
import { toWireTime } from '../../shared/time.ts';
import { readBalance } from '../credit/balance.ts';
import { reportUse, type SpendingDeps, type UseAnswer } from '../credit/report-use.ts';
import { releaseReservation, reserve, settleReservation } from '../credit/reserve.ts';
import { createAccount, findAccount } from './accounts.ts';
import { issueKey, revokeKey } from './keys.ts';

type Reported = { accountId: string; report_id: string; session_id: string; seconds: number; used_at: Date };
type Reserved = {
  accountId: string;
  reservation_id: string;
  session_id: string;
  seconds: number;
  hold_seconds: number;
};
type Settled = { accountId: string; reservation_id: string; seconds: number; used_at: Date };
type Released = { accountId: string; reservation_id: string };

/** What programs with the service token may do, in the words of the wire. Accounts and keys by their uuids. */
export function internalUseCases(deps: SpendingDeps) {
  const { db, clock } = deps;
  return {
    reportUse: async ({
      accountId,
      report_id,
      session_id,
      seconds,
      used_at,
    }: Reported): Promise<UseResult> => {
      const use = { accountId, reportId: report_id, sessionId: session_id, seconds, usedAt: used_at };
      return useResult(await reportUse(deps, use));
    },

    reserve: async (input: Reserved): Promise<ReserveResult> => {
      const { accountId, reservation_id, session_id, seconds, hold_seconds } = input;
      const names = { accountId, reservationId: reservation_id, sessionId: session_id };
      const held = await reserve(deps, { ...names, seconds, holdSeconds: hold_seconds });
      return {
        reserved_seconds: held.reservedSeconds,
        expires_at: held.expiresAt && toWireTime(held.expiresAt),
        status: held.outcome,
      };
    },

    settle: async ({ accountId, reservation_id, seconds, used_at }: Settled): Promise<UseResult> => {
      const settlement = { accountId, reservationId: reservation_id, seconds, usedAt: used_at };
      return useResult(await settleReservation(deps, settlement));
    },

    release: async ({ accountId, reservation_id }: Released): Promise<ReleaseResult> => ({
      released_seconds: await releaseReservation(deps, { accountId, reservationId: reservation_id }),
    }),

    readBalance: (accountId: string): Promise<BalanceResult> => readBalance(deps, accountId),

    createAccount: async (email: string): Promise<AccountResult> => {
      const account = await db.transaction((tx) => createAccount(tx, { email, now: clock.now() }));
      return { account_id: formatId('acc', account.id), email: account.email };
    },

    findAccount: async (email: string): Promise<AccountResult> => {
      const account = await findAccount(db, email);
      return { account_id: formatId('acc', account.id), email: account.email };
    },

    issueKey: async (
      input: Omit<IssueKeyInput, 'account_id'> & { accountId: string },
    ): Promise<IssueKeyResult> => {
      const { accountId, name, scopes, expires_at: expiresAt } = input;
      const now = clock.now();
      if (expiresAt && expiresAt <= now) {
        const message = 'must not be in the past';
        throw new ProblemError('validation-failed', `expires_at ${message}.`, {
          errors: [{ field: 'expires_at', message }],
        });
      }
      const key = await db.transactionOn(accountId, (tx) =>
        issueKey(tx, { accountId, name, scopes, expiresAt, now }),
      );
      return { api_key_id: formatId('key', key.id), api_key: key.key };
    },

    revokeKey: async (keyId: string): Promise<RevokeKeyResult> => ({
      revoked_now: await db.transaction((tx) => revokeKey(tx, { keyId, now: clock.now() })),
    }),
  };
}

function useResult({ acceptedSeconds, remainingSeconds, outcome }: UseAnswer): UseResult {
  return {
    accepted_seconds: acceptedSeconds,
    remaining_seconds: remainingSeconds,
    status: outcome,
    used_up: outcome === 'used_up',
  };
}

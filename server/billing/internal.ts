import { ProblemError } from '../../shared/errors.ts';
import { formatId, type IdPrefix, parseId } from '../../shared/ids.ts';
import type {
  AccountInput,
  AccountResult,
  BalanceInput,
  BalanceResult,
  IssueKeyInput,
  IssueKeyResult,
  ReleaseInput,
  ReleaseResult,
  ReportUseInput,
  ReserveInput,
  ReserveResult,
  RevokeKeyInput,
  RevokeKeyResult,
  SettleInput,
  UseResult,
} from '../../shared/internal.ts';
import { toWireTime } from '../../shared/time.ts';
import { readBalance } from '../credit/balance.ts';
import { reportUse, type SpendingDeps, type UseAnswer } from '../credit/report-use.ts';
import { releaseReservation, reserve, settleReservation } from '../credit/reserve.ts';
import { createAccount, findAccount } from './accounts.ts';
import { issueKey, revokeKey } from './keys.ts';

/*
 * What programs with the service token may do, in the words of the wire: the inputs are as their schemas leave them,
 * and the answers, with all their errors, are those of the functions that are called.
 */

/** Enters what a session used. */
export async function reportSessionUse(deps: SpendingDeps, input: ReportUseInput): Promise<UseResult> {
  return resultOf(
    await reportUse(deps, {
      accountId: accountOf(input),
      reportId: input.report_id,
      sessionId: input.session_id,
      seconds: input.seconds,
      usedAt: input.used_at,
    }),
  );
}

/** Holds credit for a session. */
export async function reserveCredit(deps: SpendingDeps, input: ReserveInput): Promise<ReserveResult> {
  const held = await reserve(deps, {
    accountId: accountOf(input),
    reservationId: input.reservation_id,
    sessionId: input.session_id,
    seconds: input.seconds,
    holdSeconds: input.hold_seconds,
  });
  return {
    reserved_seconds: held.reservedSeconds,
    expires_at: held.expiresAt && toWireTime(held.expiresAt),
    status: held.outcome,
  };
}

/** Enters what was used of what was held. */
export async function settleCredit(deps: SpendingDeps, input: SettleInput): Promise<UseResult> {
  return resultOf(
    await settleReservation(deps, {
      accountId: accountOf(input),
      reservationId: input.reservation_id,
      seconds: input.seconds,
      usedAt: input.used_at,
    }),
  );
}

/** Gives back what was held, unused. */
export async function releaseCredit(deps: SpendingDeps, input: ReleaseInput): Promise<ReleaseResult> {
  const reservation = { accountId: accountOf(input), reservationId: input.reservation_id };
  return { released_seconds: await releaseReservation(deps, reservation) };
}

/** Reads the credit of an account. */
export async function readCredit(deps: SpendingDeps, input: BalanceInput): Promise<BalanceResult> {
  return await readBalance(deps, accountOf(input));
}

/** Opens an account. */
export async function openAccount(
  { db, clock }: SpendingDeps,
  { email }: AccountInput,
): Promise<AccountResult> {
  const account = await db.transaction((tx) => createAccount(tx, { email, now: clock.now() }));
  return onWire(account);
}

/** Finds an account by its address. */
export async function lookUpAccount({ db }: SpendingDeps, { email }: AccountInput): Promise<AccountResult> {
  return onWire(await findAccount(db, email));
}

/** Issues a key. Throws `validation-failed` for one that would have expired already. */
export async function issueKeyTo(
  { db, clock }: SpendingDeps,
  { expires_at: expiresAt, name, scopes, ...input }: IssueKeyInput,
): Promise<IssueKeyResult> {
  const accountId = accountOf(input);
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
}

/** Revokes a key. */
export async function withdrawKey(
  { db, clock }: SpendingDeps,
  { api_key_id }: RevokeKeyInput,
): Promise<RevokeKeyResult> {
  const keyId = uuidOf('key', api_key_id);
  return { revoked_now: await db.transaction((tx) => revokeKey(tx, { keyId, now: clock.now() })) };
}

function resultOf({ acceptedSeconds, remainingSeconds, outcome }: UseAnswer): UseResult {
  return {
    accepted_seconds: acceptedSeconds,
    remaining_seconds: remainingSeconds,
    status: outcome,
    used_up: outcome === 'used_up',
  };
}

function onWire({ id, email }: { id: string; email: string }): AccountResult {
  return { account_id: formatId('acc', id), email };
}

const accountOf = ({ account_id }: { account_id: string }): string => uuidOf('acc', account_id);

function uuidOf(prefix: IdPrefix, id: string): string {
  const uuid = parseId(prefix, id);
  if (uuid === null) throw new Error('The schema lets through what is no id');
  return uuid;
}

import { initTRPC } from '@trpc/server';
import { parseId } from '../../shared/ids.ts';
import {
  type AccountResult,
  accountInput,
  accountResult,
  type BalanceResult,
  balanceInput,
  balanceResult,
  type IssueKeyInput,
  type IssueKeyResult,
  issueKeyInput,
  issueKeyResult,
  type ReleaseInput,
  type ReleaseResult,
  type ReportUseInput,
  type ReserveInput,
  type ReserveResult,
  type RevokeKeyResult,
  releaseInput,
  releaseResult,
  reportUseInput,
  reserveInput,
  reserveResult,
  revokeKeyInput,
  revokeKeyResult,
  type SettleInput,
  settleInput,
  type UseResult,
  useResult,
} from '../../shared/internal.ts';
import { problemOf, trpcErrorShape } from './problem.ts';

/** An input in which the account is named by its uuid, as everywhere inside. */
type Of<T extends { account_id: string }> = Omit<T, 'account_id'> & { accountId: string };

/** What the procedures call. Bound to their parts where the app is put together. */
export type InternalUseCases = {
  reportUse(input: Of<ReportUseInput>): Promise<UseResult>;
  reserve(input: Of<ReserveInput>): Promise<ReserveResult>;
  settle(input: Of<SettleInput>): Promise<UseResult>;
  release(input: Of<ReleaseInput>): Promise<ReleaseResult>;
  readBalance(accountId: string): Promise<BalanceResult>;
  createAccount(email: string): Promise<AccountResult>;
  findAccount(email: string): Promise<AccountResult>;
  issueKey(input: Of<IssueKeyInput>): Promise<IssueKeyResult>;
  revokeKey(keyId: string): Promise<RevokeKeyResult>;
};

/** One request with the service token. */
export type InternalContext = { readonly requestId: string; readonly useCases: InternalUseCases };

const { procedure, router } = initTRPC.context<InternalContext>().create({
  isDev: false,
  errorFormatter: ({ error, ctx, path }) => trpcErrorShape(problemOf(error), ctx?.requestId ?? '', path),
});

/** What programs of the operator may call; the inputs and outputs say what each does. Not in the public document. */
export const internalRouter = router({
  credit: router({
    reportUse: procedure
      .input(reportUseInput)
      .output(useResult)
      .mutation(({ ctx, input }) => ctx.useCases.reportUse(withUuid(input))),
    reserve: procedure
      .input(reserveInput)
      .output(reserveResult)
      .mutation(({ ctx, input }) => ctx.useCases.reserve(withUuid(input))),
    settle: procedure
      .input(settleInput)
      .output(useResult)
      .mutation(({ ctx, input }) => ctx.useCases.settle(withUuid(input))),
    release: procedure
      .input(releaseInput)
      .output(releaseResult)
      .mutation(({ ctx, input }) => ctx.useCases.release(withUuid(input))),
    balance: procedure
      .input(balanceInput)
      .output(balanceResult)
      .query(({ ctx, input }) => ctx.useCases.readBalance(withUuid(input).accountId)),
  }),
  accounts: router({
    create: procedure
      .input(accountInput)
      .output(accountResult)
      .mutation(({ ctx, input }) => ctx.useCases.createAccount(input.email)),
    /** For whoever missed the answer of `create`, which refuses an address that is in use. */
    find: procedure
      .input(accountInput)
      .output(accountResult)
      .query(({ ctx, input }) => ctx.useCases.findAccount(input.email)),
  }),
  keys: router({
    issue: procedure
      .input(issueKeyInput)
      .output(issueKeyResult)
      .mutation(({ ctx, input }) => ctx.useCases.issueKey(withUuid(input))),
    revoke: procedure
      .input(revokeKeyInput)
      .output(revokeKeyResult)
      .mutation(({ ctx, input }) => ctx.useCases.revokeKey(uuidOf('key', input.api_key_id))),
  }),
});
export type InternalRouter = typeof internalRouter;

function withUuid<T extends { account_id: string }>({ account_id, ...rest }: T): Of<T> {
  return { ...rest, accountId: uuidOf('acc', account_id) };
}

function uuidOf(prefix: 'acc' | 'key', id: string): string {
  const uuid = parseId(prefix, id);
  if (uuid === null) throw new Error('The schema lets through what is no id');
  return uuid;
}

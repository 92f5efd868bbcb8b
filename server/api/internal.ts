import {
  accountInput,
  accountResult,
  balanceInput,
  balanceResult,
  issueKeyInput,
  issueKeyResult,
  releaseInput,
  releaseResult,
  reportUseInput,
  reserveInput,
  reserveResult,
  revokeKeyInput,
  revokeKeyResult,
  settleInput,
  useResult,
} from '../../shared/internal.ts';
import {
  issueKeyTo,
  lookUpAccount,
  openAccount,
  readCredit,
  releaseCredit,
  reportSessionUse,
  reserveCredit,
  settleCredit,
  withdrawKey,
} from '../billing/internal.ts';
import type { ApiDeps } from './context.ts';
import { proceduresOf, router } from './procedure.ts';

/** What there is to work with. */
export type InternalDeps = Pick<ApiDeps, 'db' | 'clock'>;

/** One request with the service token. */
export type InternalContext = { readonly requestId: string; readonly deps: InternalDeps };

const { admitting, runOf } = proceduresOf<InternalContext, Record<string, never>>();
/** How one of the procedures below is run. */
export const runOfInternal = runOf;

/** The door has let the caller in. */
const procedure = admitting(async (ctx) => ctx).meta({});

/** What programs of the operator may call; the inputs and outputs say what each does. Not in the public document. */
export const internalRouter = router({
  credit: router({
    reportUse: procedure
      .input(reportUseInput)
      .output(useResult)
      .mutation(({ ctx, input }) => reportSessionUse(ctx.deps, input)),
    reserve: procedure
      .input(reserveInput)
      .output(reserveResult)
      .mutation(({ ctx, input }) => reserveCredit(ctx.deps, input)),
    settle: procedure
      .input(settleInput)
      .output(useResult)
      .mutation(({ ctx, input }) => settleCredit(ctx.deps, input)),
    release: procedure
      .input(releaseInput)
      .output(releaseResult)
      .mutation(({ ctx, input }) => releaseCredit(ctx.deps, input)),
    balance: procedure
      .input(balanceInput)
      .output(balanceResult)
      .query(({ ctx, input }) => readCredit(ctx.deps, input)),
  }),
  accounts: router({
    create: procedure
      .input(accountInput)
      .output(accountResult)
      .mutation(({ ctx, input }) => openAccount(ctx.deps, input)),
    /** For whoever missed the answer of `create`, which refuses an address that is in use. */
    find: procedure
      .input(accountInput)
      .output(accountResult)
      .query(({ ctx, input }) => lookUpAccount(ctx.deps, input)),
  }),
  keys: router({
    issue: procedure
      .input(issueKeyInput)
      .output(issueKeyResult)
      .mutation(({ ctx, input }) => issueKeyTo(ctx.deps, input)),
    revoke: procedure
      .input(revokeKeyInput)
      .output(revokeKeyResult)
      .mutation(({ ctx, input }) => withdrawKey(ctx.deps, input)),
  }),
});
export type InternalRouter = typeof internalRouter;

import type { OpenApiMeta } from 'trpc-to-openapi';
import type { ZodType } from 'zod';
import { ProblemError } from '../../shared/errors.ts';
import { type Scope, scopeAllows } from '../../shared/scopes.ts';
import type { Minted, MintingCall } from '../billing/deps.ts';
import { once } from '../billing/once.ts';
import type { ApiDeps, Context, RateBucket } from './context.ts';
import { idempotencyKey } from './idempotency-key.ts';
import { proceduresOf } from './procedure.ts';

/** What each procedure says about itself: what it needs, and how REST shows it. */
export type Meta = {
  scope: Scope;
  bucket: RateBucket;
  /** What a success is answered with over REST; 200 unless it says otherwise. */
  status?: 201 | 202 | 204;
  openapi: NonNullable<OpenApiMeta['openapi']> & { tags: string[]; summary: string; description: string };
};

const { admitting, runOf } = proceduresOf<Context, Meta>();

export { runOf };

/** A call by a key that has the scope the procedure names, within the limits of its account. */
async function admit(ctx: Context, { scope, bucket }: Meta) {
  const caller = await ctx.authenticate();
  ctx.admit(caller, bucket);
  if (!scopeAllows(caller.scopes, scope)) {
    throw new ProblemError('forbidden', `This call needs the scope ${scope}, which this API key lacks.`);
  }
  return { deps: ctx.deps, caller: { ...caller, requestId: ctx.requestId }, markReplayed: ctx.markReplayed };
}

/** A call that needs no Idempotency-Key. */
export const procedure = admitting(admit);

/** A POST, which may carry an Idempotency-Key. Its answer comes by `answer` or by `answerOnce`. */
export const postProcedure = admitting(async (ctx, meta) => {
  const { caller, ...rest } = await admit(ctx, meta);
  return { ...rest, caller: { ...caller, idempotencyKey: idempotencyKey(ctx.idempotencyKeys()) } };
});

type Post<I> = {
  ctx: Pick<Context, 'deps' | 'markReplayed'> & { readonly caller: MintingCall };
  input: I;
  path: string;
};

/**
 * The resolver of a POST that calls nobody else: what it does, and the answer that `schema` describes, happen once
 * under the key.
 */
export function answerOnce<I, T extends object>(
  schema: ZodType<T>,
  work: (deps: ApiDeps, caller: MintingCall, input: I) => Promise<T>,
): (post: Post<I>) => Promise<T> {
  return async ({ ctx, input, path }) => {
    const { deps, caller } = ctx;
    const withCommit = (commit: ApiDeps['commit']) => work({ ...deps, commit }, caller, input);
    const read = (kept: unknown) => schema.parse(kept);
    return answer(ctx, await once(deps, caller, { route: path, input }, withCommit, read));
  };
}

/** Unwraps what a minting call answered and marks the answer if it was given before. */
export function answer<T>(ctx: Pick<Context, 'markReplayed'>, minted: Minted<T>): T {
  if (minted.replayed) ctx.markReplayed();
  return minted.value;
}

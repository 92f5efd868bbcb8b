import { initTRPC } from '@trpc/server';
import type { OpenApiMeta } from 'trpc-to-openapi';
import type { ZodType } from 'zod';
import { ProblemError } from '../../shared/errors.ts';
import { type Scope, scopeAllows } from '../../shared/scopes.ts';
import type { Minted, MintingCall } from '../billing/deps.ts';
import { once } from '../billing/once.ts';
import type { ApiDeps, Context, RateBucket } from './context.ts';
import { idempotencyKey } from './idempotency-key.ts';
import { problemOf, trpcErrorShape } from './problem.ts';

/** What each procedure says about itself: what it needs, and how REST shows it. */
export type Meta = {
  scope: Scope;
  bucket: RateBucket;
  /** What a success is answered with over REST; 200 unless it says otherwise. */
  status?: 201 | 202 | 204;
  openapi: NonNullable<OpenApiMeta['openapi']> & { tags: string[]; summary: string; description: string };
};

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    // Never a stack in an answer, whatever NODE_ENV says.
    isDev: false,
    errorFormatter: ({ error, ctx, path }) => trpcErrorShape(problemOf(error), ctx?.requestId ?? '', path),
  });

export const router = t.router;

/** A call by a key that has the scope the procedure names, within the limits of its account. */
export const procedure = t.procedure.use(async ({ ctx, meta, next }) => {
  if (!meta) throw new Error('Every procedure names its scope and its bucket');
  const caller = await ctx.authenticate();
  ctx.admit(caller, meta.bucket);
  if (!scopeAllows(caller.scopes, meta.scope)) {
    throw new ProblemError('forbidden', `This call needs the scope ${meta.scope}, which this API key lacks.`);
  }
  return next({ ctx: { caller: { ...caller, requestId: ctx.requestId } } });
});

/** A POST, which may carry an Idempotency-Key. Its answer comes by `answer` or by `answerOnce`. */
export const postProcedure = procedure.use(({ ctx, next }) =>
  next({ ctx: { caller: { ...ctx.caller, idempotencyKey: idempotencyKey(ctx.idempotencyKeys) } } }),
);

type Post<I> = { ctx: Context & { caller: MintingCall }; input: I; path: string };

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
export function answer<T>(ctx: Context, minted: Minted<T>): T {
  if (minted.replayed) ctx.markReplayed();
  return minted.value;
}

import { initTRPC, TRPCError } from '@trpc/server';
import type { OpenApiMeta } from 'trpc-to-openapi';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { callProcedure } from '../../server/api/call.ts';

const t = initTRPC.context<{ name: string; seen: string[] }>().meta<OpenApiMeta>().create();
const described = { openapi: { method: 'GET', path: '/x' } } satisfies OpenApiMeta;

const greet = t.procedure
  .meta(described)
  .use(async ({ ctx, next, meta, path }) => {
    ctx.seen.push(`${path} ${meta?.openapi?.path}`);
    if (ctx.name === 'stranger') throw new RangeError('not you');
    const result = await next({ ctx: { greeting: 'Hello' } });
    ctx.seen.push(result.ok ? 'went well' : result.error.code);
    return result;
  })
  .input(z.strictObject({ mark: z.string() }))
  .input(z.object({ times: z.coerce.number().default(2) }).partial())
  .output(z.object({ text: z.string().max(20) }))
  .query(({ ctx, input }) => ({ text: `${ctx.greeting} ${ctx.name}${input.mark.repeat(2)}`, more: 1 }));

const outcome = async (run: (ctx: { name: string; seen: string[] }) => Promise<unknown>, name: string) => {
  const seen: string[] = [];
  try {
    return { data: await run({ name, seen }), seen };
  } catch (error) {
    if (!(error instanceof TRPCError)) throw error;
    return { code: error.code, message: error.message, cause: error.cause?.constructor.name, seen };
  }
};

const call = (ctx: object, raw: unknown): Parameters<typeof callProcedure>[1] => ({
  ctx,
  path: 'greet',
  type: 'query',
  signal: undefined,
  batchIndex: 0,
  getRawInput: async () => raw,
});

it.each([
  ['a call that goes well', 'Ada', { mark: '!' }],
  ['input that is refused', 'Ada', { mark: 7 }],
  ['a middleware that throws', 'stranger', { mark: '!' }],
  ['an answer that breaks its schema', 'a name of more than twenty letters', { mark: '!' }],
])('runs %s as tRPC itself does', async (_what, name, raw) => {
  const theirs = await outcome((ctx) => Promise.resolve(greet(call(ctx, raw))), name);
  const ours = await outcome((ctx) => callProcedure(greet, call(ctx, raw)), name);
  expect(ours).toEqual(theirs);
  expect(ours.seen.length).toBeGreaterThan(0);
});

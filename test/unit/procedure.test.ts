import { expect, it } from 'vitest';
import { z } from 'zod';
import { internalRouter } from '../../server/api/internal.ts';
import { proceduresOf, router } from '../../server/api/procedure.ts';
import { appRouter } from '../../server/api/root.ts';
import { ProblemError } from '../../shared/errors.ts';

type Ctx = { name: string; seen: string[] };

const { admitting, runOf } = proceduresOf<Ctx, { scope: string }>();
const procedure = admitting(async ({ name, seen }, { scope }) => {
  seen.push(`admits by ${scope}`);
  if (name === 'stranger') throw new ProblemError('forbidden', 'Not you.');
  return { greeting: `Hello ${name}`, seen };
});

const greet = procedure
  .meta({ scope: 'read' })
  .input(z.strictObject({ mark: z.string(), times: z.int().default(2) }))
  .output(z.object({ text: z.string().max(20) }))
  .query(async ({ ctx, input, path }) => {
    ctx.seen.push(path);
    return { text: `${ctx.greeting}${input.mark.repeat(input.times)}`, more: 1 };
  });

async function outcome(name: string, input: unknown) {
  const seen: string[] = [];
  const readInput = () => {
    seen.push('reads the input');
    return input;
  };
  const answer = await runOf(greet)({ name, seen }, { path: 'greet', readInput }).catch(
    (error: unknown) => error,
  );
  return { answer, seen };
}

it('lets the caller in, reads the input, makes the call, and answers what the schema says', async () => {
  const { answer, seen } = await outcome('Ada', { mark: '!' });
  expect(answer).toEqual({ text: 'Hello Ada!!' });
  expect(seen).toEqual(['admits by read', 'reads the input', 'greet']);
});

it('reads no input of a caller who is not let in', async () => {
  const { answer, seen } = await outcome('stranger', { mark: '!' });
  expect(answer).toMatchObject({ slug: 'forbidden' });
  expect(seen).toEqual(['admits by read']);
});

it('makes no call with an input that is refused, and names its fields', async () => {
  const { answer, seen } = await outcome('Ada', { mark: 7, other: 1 });
  expect(answer).toMatchObject({
    slug: 'validation-failed',
    options: { errors: [{ field: 'mark' }, { field: 'other' }] },
  });
  expect(seen).toEqual(['admits by read', 'reads the input']);
});

it('gives no answer that breaks its schema', async () => {
  const { answer } = await outcome('a name of more than twenty letters', { mark: '!' });
  expect(answer).toBeInstanceOf(z.ZodError);
});

it('runs only what it made', () => {
  const other = proceduresOf<Ctx, { scope: string }>();
  expect(() => other.runOf(greet)).toThrow('made elsewhere');
});

it('lets nobody call a procedure past the doors', async () => {
  const refused = { message: 'Procedures are run by the doors' };
  const ctx = { requestId: 'req_1' };
  await expect(router({ greet }).createCaller(ctx).greet({ mark: '!' })).rejects.toMatchObject(refused);
  await expect(appRouter.createCaller(ctx).billing.getState({})).rejects.toMatchObject(refused);
  const account = { account_id: 'acc_01890a5d-ac96-774b-bcce-b302099a8057' };
  await expect(internalRouter.createCaller(ctx).credit.balance(account)).rejects.toMatchObject(refused);
});

import {
  type AnyTRPCMutationProcedure,
  type AnyTRPCQueryProcedure,
  initTRPC,
  type TRPCMutationProcedure,
  type TRPCQueryProcedure,
} from '@trpc/server';
import type { ZodType, z } from 'zod';
import { problemOf, trpcErrorShape, validationFailed } from './problem.ts';

const t = initTRPC
  .context<{ readonly requestId: string }>()
  .meta<Record<string, unknown>>()
  .create({
    // Never a stack in an answer, whatever NODE_ENV says.
    isDev: false,
    errorFormatter: ({ error, ctx, path }) => trpcErrorShape(problemOf(error), ctx?.requestId ?? '', path),
  });

export const router = t.router;

/** One call of a procedure. Its input is read only once the caller has been let in. */
export type Call = { readonly path: string; readInput(): unknown };

/** Runs a procedure for one request: lets the caller in, reads the input, makes the one call, checks the answer. */
export type Run<Ctx> = (ctx: Ctx, call: Call) => Promise<unknown>;

/** The one call that a procedure makes. */
type Work<Given, In extends ZodType, Out extends ZodType> = (options: {
  readonly ctx: Given;
  readonly input: z.output<In>;
  readonly path: string;
}) => Promise<z.input<Out>>;

type Types<Meta, In extends ZodType, Out extends ZodType> = {
  meta: Meta;
  input: z.input<In>;
  output: z.output<Out>;
};

/**
 * Makes the procedures of one kind of request, in tRPC's words, and finds again how each is run. tRPC has their types
 * and what the document says of them; running them is ours, in the five lines below, because tRPC copies what it
 * passes from step to step: 15 µs of processor time a call. Whoever calls one past the doors is refused.
 */
export function proceduresOf<Ctx, Meta extends Record<string, unknown>>() {
  const runs = new WeakMap<object, Run<Ctx>>();

  /** Procedures for whom `admit` lets in; what it answers is the `ctx` of their calls. */
  const admitting = <Given>(admit: (ctx: Ctx, meta: Meta) => Promise<Given>) => ({
    meta: (meta: Meta) => ({
      input: <In extends ZodType>(input: In) => ({
        output: <Out extends ZodType>(output: Out) => {
          const remember = <P extends object>(procedure: P, work: Work<Given, In, Out>): P => {
            runs.set(procedure, async (ctx, { path, readInput }) => {
              const given = await admit(ctx, meta);
              const read = input.safeParse(readInput());
              if (!read.success) throw validationFailed(read.error);
              return output.parse(await work({ ctx: given, input: read.data, path }));
            });
            return procedure;
          };
          const described = t.procedure.meta(meta).input<ZodType>(input).output<ZodType>(output);
          return {
            query(work: Work<Given, In, Out>): TRPCQueryProcedure<Types<Meta, In, Out>> {
              const procedure: AnyTRPCQueryProcedure = described.query(refuse);
              return remember(procedure, work);
            },
            mutation(work: Work<Given, In, Out>): TRPCMutationProcedure<Types<Meta, In, Out>> {
              const procedure: AnyTRPCMutationProcedure = described.mutation(refuse);
              return remember(procedure, work);
            },
          };
        },
      }),
    }),
  });

  /** How one of these procedures is run. Throws for any other. */
  const runOf = (procedure: object): Run<Ctx> => {
    const run = runs.get(procedure);
    if (!run) throw new Error('This procedure was made elsewhere');
    return run;
  };
  return { admitting, runOf };
}

function refuse(): never {
  throw new Error('Procedures are run by the doors');
}

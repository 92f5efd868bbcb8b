import type { z } from 'zod';
import type { World } from './world.ts';

/** One API route. `run` is synchronous and runs inside `world.atomically`; what it returns is the answer. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** `/v1/customers/:id` */
  readonly path: string;
  /** Form or query parameters after bracket decoding, without `expand`. Strict: what it does not name is refused. */
  readonly params: z.ZodType;
  run(world: World, call: { readonly id: string; readonly params: unknown }): object;
}

/** Declares a route with its parameters typed. `:id` in the path arrives as `call.id` ('' where there is none). */
export function route<S extends z.ZodType>(
  method: Route['method'],
  path: string,
  params: S,
  run: (world: World, params: z.output<S>, id: string) => object,
): Route {
  return { method, path, params, run: (world, call) => run(world, call.params as z.output<S>, call.id) };
}

import type { FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import type { OpenApiProcedure } from 'trpc-to-openapi';
import { z } from 'zod';
import { ProblemError } from '../../shared/errors.ts';
import { type Meta, runOf } from '../api/init.ts';
import { appRouter } from '../api/root.ts';
import { isPlainText, parseJsonBody } from './json.ts';
import { type ApiParts, openContext } from './request-context.ts';

type Procedure = OpenApiProcedure & { _def: { meta?: Meta } };
type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

export type RestRoute = { method: HTTPMethods; url: string; minting: boolean; handler: Handler };

/**
 * The REST routes of every procedure, at exactly the path it declares.
 *
 * | a call that                               | is answered                                              |
 * |-------------------------------------------|----------------------------------------------------------|
 * | goes well                                 | 200, or what the procedure declares: 201, 202, 204       |
 * | was answered before under its key         | the same, with `Idempotent-Replayed: 1`                  |
 * | has no key, or one that does not work     | 401 with `WWW-Authenticate`                              |
 * | is over its account's share               | 429 with `Retry-After`                                   |
 * | is refused                                | 400, 403, 404 or 409, a problem that names the reason    |
 * | meets a fault of ours                     | 5xx, logged with its cause; `Retry-After` where it helps |
 */
export function restRoutes(parts: ApiParts): RestRoute[] {
  return operations().map(({ path, procedure, meta: { openapi, status } }) => ({
    method: openapi.method,
    url: openapi.path.replace(/\{(\w+)\}/g, ':$1'),
    minting: procedure._def.type === 'mutation',
    handler: dispatch(path, procedure, { hasBody: !BODILESS.has(openapi.method), status }, parts),
  }));
}

/**
 * Every procedure and how REST shows it. The library that writes the OpenAPI document is not used to serve it: its
 * handler switches the shared schemas to coercing, for tRPC too, and sends raw messages, and what it loads for other
 * servers than ours would stay in memory.
 */
export function operations(): { path: string; procedure: Procedure; meta: Meta }[] {
  // By their full names. tRPC types this record as the nested one the router was made from.
  const procedures: object = appRouter._def.procedures;
  return Object.entries<Procedure>({ ...procedures }).map(([path, procedure]) => {
    const { meta } = procedure._def;
    if (!meta) throw new Error('every procedure says how REST shows it');
    return { path, procedure, meta };
  });
}

const BODILESS: ReadonlySet<HTTPMethods> = new Set(['GET', 'DELETE']);

/** Calls the procedure, which reads its input only after it has let the caller in. */
function dispatch(
  path: string,
  procedure: Procedure,
  { hasBody, status = 200 }: { hasBody: boolean; status?: Meta['status'] | 200 | undefined },
  parts: ApiParts,
): Handler {
  const readQuery = queryReader(procedure);
  const run = runOf(procedure);
  return async (request, reply) => {
    const answer = await run(openContext(request, reply, parts), {
      path,
      readInput: () => withPath(request.params, hasBody ? readBody(request.body) : readQuery(request.query)),
    });
    reply.code(status);
    return status === 204 ? reply.send() : answer;
  };
}

function readBody(body: unknown): unknown {
  return Buffer.isBuffer(body) ? parseJsonBody(body) : undefined;
}

/** What the path names belongs to the input, and may stand nowhere else. */
function withPath(params: unknown, input: unknown): unknown {
  const named = Object.entries(params ?? {});
  if (named.length === 0) return input;
  if (input !== undefined && (typeof input !== 'object' || input === null || Array.isArray(input)))
    return input;
  for (const [name, value] of named) {
    if (!isPlainText(String(value))) throw refusal(name, 'is not text');
    if (input !== undefined && Object.hasOwn(input, name)) throw refusal(name, 'stands in the path only');
  }
  return { ...input, ...Object.fromEntries(named) };
}

const INTEGER = /^-?\d{1,300}$/;

/** Reads parameters as text, and as numbers where the schema asks for them; never guesses otherwise. */
export function queryReader(
  procedure: OpenApiProcedure,
): (query: unknown) => Record<string, unknown> | undefined {
  const numeric = new Set(
    fieldsOf(procedure).flatMap(([name, schema]) => (bare(schema) instanceof z.ZodNumber ? [name] : [])),
  );
  return (query) => {
    const entries = Object.entries(query ?? {});
    if (entries.length === 0) return undefined;
    return Object.fromEntries(
      entries.map(([name, value]) => {
        if (typeof value !== 'string') throw refusal(name, 'must be given once');
        if (!isPlainText(name) || !isPlainText(value)) throw refusal(name, 'is not text');
        return [name, numeric.has(name) && INTEGER.test(value) ? Number(value) : value];
      }),
    );
  };
}

/** tRPC does not declare a procedure's inputs, but has kept them in this place since its first version. */
function fieldsOf({ _def }: OpenApiProcedure): [string, unknown][] {
  const inputs: unknown = Reflect.get(_def, 'inputs');
  if (!Array.isArray(inputs)) throw new Error('this version of tRPC keeps its inputs elsewhere');
  return inputs.flatMap((input: unknown) => {
    const schema = bare(input);
    if (!(schema instanceof z.ZodObject)) throw new Error('what a procedure takes is an object');
    return Object.entries(schema.shape);
  });
}

/** Without what says that it may be left out. */
function bare(schema: unknown): unknown {
  for (const Wrapper of [z.ZodOptional, z.ZodNullable, z.ZodDefault, z.ZodPrefault])
    if (schema instanceof Wrapper) return bare(schema.unwrap());
  return schema;
}

function refusal(field: string, message: string): ProblemError {
  return new ProblemError('validation-failed', `${field} ${message}.`, { errors: [{ field, message }] });
}

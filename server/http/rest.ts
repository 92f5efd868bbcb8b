import type { FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import {
  acceptsRequestBody,
  forEachOpenApiProcedure,
  getInputOutputParsers,
  instanceofZodTypeKind,
  type OpenApiProcedure,
  unwrapZodType,
} from 'trpc-to-openapi';
import { ProblemError } from '../../shared/errors.ts';
import { type Meta, runOf } from '../api/init.ts';
import { appRouter } from '../api/root.ts';
import { isPlainText, parseJsonBody } from './json.ts';
import { type ApiParts, openContext } from './request-context.ts';

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

export type RestRoute = { method: HTTPMethods; url: string; minting: boolean; handler: Handler };

/**
 * The REST routes of every procedure that declares one, at exactly the path it declares. The library's own
 * handler is not used: it switches the shared schemas to coercing, for tRPC too, and sends raw messages.
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
  const routes: RestRoute[] = [];
  forEachOpenApiProcedure<Meta>(
    appRouter._def.procedures,
    ({ path, procedure, meta: { openapi, status } }) => {
      routes.push({
        method: openapi.method,
        url: openapi.path.replace(/\{(\w+)\}/g, ':$1'),
        minting: procedure._def.type === 'mutation',
        handler: dispatch(path, procedure, { hasBody: acceptsRequestBody(openapi.method), status }, parts),
      });
    },
  );
  return routes;
}

/** Calls the procedure, which reads its input only after it has let the caller in. */
function dispatch(
  path: string,
  procedure: OpenApiProcedure,
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
function queryReader(procedure: OpenApiProcedure): (query: unknown) => Record<string, unknown> | undefined {
  const { inputParser } = getInputOutputParsers(procedure);
  const shape = Reflect.get(unwrapZodType(inputParser, true), 'shape');
  const numeric = new Set(
    Object.entries<Parameters<typeof unwrapZodType>[0]>(shape)
      .filter(([, schema]) => instanceofZodTypeKind(unwrapZodType(schema, true), 'number'))
      .map(([name]) => name),
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

function refusal(field: string, message: string): ProblemError {
  return new ProblemError('validation-failed', `${field} ${message}.`, { errors: [{ field, message }] });
}

import { resolveResponse } from '@trpc/server/http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { forEachOpenApiProcedure } from 'trpc-to-openapi';
import { ProblemError } from '../../shared/errors.ts';
import { problemOf, trpcErrorShape } from '../api/problem.ts';
import { appRouter } from '../api/root.ts';
import { parseJson, parseJsonBody } from './json.ts';
import { noteProblem } from './problems.ts';
import { type ApiParts, openContext } from './request-context.ts';

const PREFIX = '/trpc/';
const MAX_BATCH = 10;
const HEADERS = { 'content-type': 'application/json' };

/**
 * Answers a tRPC call or a batch of at most ten. What tRPC would refuse before it has a context is refused
 * here, so that every error carries the whole problem and the request id.
 */
export async function handleTrpc(
  request: FastifyRequest,
  reply: FastifyReply,
  parts: ApiParts,
): Promise<FastifyReply> {
  const call = readCall(request);
  if (call instanceof ProblemError) return sendError(reply, call);
  const response = await resolveResponse({
    router: appRouter,
    req: call.request,
    path: call.path,
    error: null,
    maxBatchSize: MAX_BATCH,
    createContext: async () => openContext(request, reply, parts),
    onError: ({ error }) => noteProblem(reply, problemOf(error)),
  });
  const allow = response.headers.get('allow');
  if (allow !== null) reply.header('allow', allow);
  return reply
    .code(response.status)
    .header('content-type', 'application/json')
    .send(await response.text());
}

function sendError(reply: FastifyReply, problem: ProblemError): FastifyReply {
  noteProblem(reply, problem);
  return reply
    .code(problem.status)
    .header('content-type', 'application/json')
    .send(JSON.stringify({ error: trpcErrorShape(problem, reply.request.id) }));
}

type TrpcCall = { path: string; request: Request };

/** Hands over only what a call consists of: path, input, body. No header of the caller's changes how it is read. */
function readCall(request: FastifyRequest): TrpcCall | ProblemError {
  const [pathname = '', ...rest] = (request.raw.url ?? '').split('?');
  const path = pathname.slice(pathname.indexOf(PREFIX) + PREFIX.length);
  const query = new URLSearchParams(rest.join('?'));
  try {
    const isBatch = query.get('batch') === '1';
    checkPaths(decodeURIComponent(path), isBatch);
    const search = new URLSearchParams(isBatch ? { batch: '1' } : {});
    const input = query.get('input');
    if (request.method === 'GET' && input) {
      parseJson(input, 'The parameter input');
      search.set('input', input);
    }
    const url = `http://trpc/?${search}`;
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    parseJsonBody(body);
    return {
      path,
      request:
        request.method === 'GET'
          ? new Request(url, { headers: HEADERS })
          : new Request(url, { method: 'POST', headers: HEADERS, body: body.toString('utf8') }),
    };
  } catch (error) {
    if (error instanceof URIError) return new ProblemError('bad-request', 'The path cannot be decoded.');
    return problemOf(error);
  }
}

const TYPES = new Map<string, string>();
forEachOpenApiProcedure(appRouter._def.procedures, ({ path, type }) => TYPES.set(path, type));

function checkPaths(path: string, isBatch: boolean): void {
  const names = isBatch ? path.split(',') : [path];
  if (names.length > MAX_BATCH) {
    throw new ProblemError('bad-request', `A batch may hold at most ${MAX_BATCH} calls.`);
  }
  const types = new Set(names.flatMap((name) => TYPES.get(name) ?? []));
  if (types.size > 1) throw new ProblemError('bad-request', 'A batch holds either queries or mutations.');
}

import type { AnyTRPCProcedure } from '@trpc/server';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { runOf } from '../api/init.ts';
import { type InternalDeps, internalRouter, runOfInternal } from '../api/internal.ts';
import { trpcErrorShape } from '../api/problem.ts';
import type { Run } from '../api/procedure.ts';
import { appRouter } from '../api/root.ts';
import { parseJson, parseJsonBody } from './json.ts';
import { describeProblem, noteProblem } from './problems.ts';
import { type ApiParts, openContext } from './request-context.ts';

const MAX_BATCH = 10;
const LINES = 'application/jsonl';

/**
 * Speaks tRPC's HTTP protocol to its own clients: one call, or a batch of at most ten, answered in order. tRPC's
 * adapter builds a fetch Request and Response for every call, which made reading billing state cost 290 µs of
 * processor time in place of 165, and it refuses some calls before there is a request id to refuse them with.
 *
 * | what comes                          | is answered                                                        |
 * |-------------------------------------|--------------------------------------------------------------------|
 * | one call that goes well             | 200 `{ result: { data } }`                                         |
 * | one that does not                   | the status of its problem, `{ error }` with that in `data.problem` |
 * | a batch                             | an array, in order; the status of all, or 207 where they differ    |
 * | a batch that asks for JSON lines    | 200 and one line with all of them, each with its own status        |
 * | more than ten, or both kinds in one | 400 `{ error }`, and none is run                                   |
 * | a name of nobody, the other method  | 404, 405 with `Allow`                                              |
 */
export async function handleTrpc(
  request: FastifyRequest,
  reply: FastifyReply,
  parts: ApiParts,
): Promise<FastifyReply> {
  return await answerCalls(request, reply, { ...PUBLIC, ctx: openContext(request, reply, parts) });
}

/** The same for programs that hold the service token. */
export async function handleInternalTrpc(
  request: FastifyRequest,
  reply: FastifyReply,
  deps: InternalDeps,
): Promise<FastifyReply> {
  return await answerCalls(request, reply, { ...INTERNAL, ctx: { requestId: request.id, deps } });
}

type Mount<Ctx> = {
  /** What stands before the name of the procedure in the path. */
  prefix: string;
  procedures: ReadonlyMap<string, { type: 'query' | 'mutation'; run: Run<Ctx> }>;
  ctx: Ctx;
};

async function answerCalls<Ctx>(
  request: FastifyRequest,
  reply: FastifyReply,
  mount: Mount<Ctx>,
): Promise<FastifyReply> {
  const isStream = wantsLines(request);
  const { names, isBatch, readInput } = readCall(request, mount);
  if (isStream && !isBatch)
    throw new ProblemError('bad-request', 'A call that asks for JSON lines is a batch.');
  const call = { request, reply, mount, readInput };
  const [first = ''] = names;
  if (!isBatch) return sendJson(reply, await callOne(first, 0, call));
  const answers = await Promise.all(names.map((name, index) => callOne(name, index, call)));
  if (isStream) return sendLines(reply, answers);
  const statuses = new Set(answers.map(({ status }) => status));
  const [status = 207, other] = statuses;
  return sendJson(reply, {
    status: other === undefined ? status : 207,
    body: answers.map(({ body }) => body),
  });
}

function sendJson(reply: FastifyReply, { status, body }: Answer): FastifyReply {
  return reply.code(status).header('content-type', 'application/json').send(JSON.stringify(body));
}

/** Whether tRPC's `httpBatchStreamLink` asks; it reads nothing else. */
function wantsLines({ headers }: FastifyRequest): boolean {
  const accepted = headers['trpc-accept'] ?? headers.accept ?? '';
  return String(accepted)
    .split(',')
    .some((type) => type.trim().toLowerCase() === LINES);
}

/**
 * All answers in the one line that tRPC calls the head of the stream. It could be followed by answers that come
 * later; but what a call writes into the headers, such as what is left of a rate limit, has to come before.
 */
function sendLines(reply: FastifyReply, answers: readonly Answer[]): FastifyReply {
  const head = Object.fromEntries(answers.map(({ body }, index) => [index, [[body]]]));
  return reply
    .code(200)
    .header('content-type', LINES)
    .header('vary', 'trpc-accept')
    .send(`${JSON.stringify(head)}\n`);
}

/** Answers in tRPC's shape what was refused before there was a call, or could not be read as one. */
export function sendTrpcProblem(reply: FastifyReply, thrown: unknown): FastifyReply {
  return sendJson(reply, refusal(reply, thrown));
}

const PUBLIC = { prefix: '/trpc/', procedures: byName(appRouter._def.procedures, runOf) };
const INTERNAL = {
  prefix: '/internal/trpc/',
  procedures: byName(internalRouter._def.procedures, runOfInternal),
};

/** By their full names. tRPC types this record as the nested one the router was made from. */
function byName<Ctx>(record: object, runs: (procedure: object) => Run<Ctx>): Mount<Ctx>['procedures'] {
  return new Map(
    Object.entries<AnyTRPCProcedure>({ ...record }).map(([name, procedure]) => {
      const type = procedure._def.type === 'query' ? 'query' : 'mutation';
      return [name, { type, run: runs(procedure) }];
    }),
  );
}

type TrpcCall = {
  names: string[];
  isBatch: boolean;
  /** Reads the input of one call, only once the caller has been let in. */
  readInput(index: number): unknown;
};

function readCall(
  request: FastifyRequest,
  { prefix, procedures }: Pick<Mount<never>, 'prefix' | 'procedures'>,
): TrpcCall {
  const { url = '' } = request.raw;
  const question = url.indexOf('?');
  const pathname = question === -1 ? url : url.slice(0, question);
  const search = question === -1 ? NOTHING_ASKED : new URLSearchParams(url.slice(question + 1));
  const isBatch = search.get('batch') === '1';
  const path = decode(pathname.slice(pathname.indexOf(prefix) + prefix.length));
  const names = isBatch ? path.split(',') : [path];
  if (isBatch) checkBatch(names, procedures);

  let inputs: { value: unknown } | undefined;
  const readInput = (index: number) => {
    inputs ??= { value: parseInputs(request, search) };
    if (!isBatch || inputs.value === undefined) return inputs.value;
    if (!(inputs.value instanceof Object)) {
      throw new ProblemError(
        'bad-request',
        'The inputs of a batch are an object, by the position of the call.',
      );
    }
    return Object.hasOwn(inputs.value, index) ? Reflect.get(inputs.value, index) : undefined;
  };
  return { names, isBatch, readInput };
}

const NOTHING_ASKED = new URLSearchParams();

function checkBatch(names: readonly string[], procedures: Mount<never>['procedures']): void {
  if (names.length > MAX_BATCH) {
    const detail = `A batch may hold at most ${MAX_BATCH} calls. Give tRPC's batch link maxItems: ${MAX_BATCH}.`;
    throw new ProblemError('bad-request', detail);
  }
  const types = new Set(names.flatMap((name) => procedures.get(name)?.type ?? []));
  if (types.size > 1) throw new ProblemError('bad-request', 'A batch holds either queries or mutations.');
}

function parseInputs({ method, body }: FastifyRequest, search: URLSearchParams): unknown {
  if (method !== 'GET') return Buffer.isBuffer(body) ? parseJsonBody(body) : undefined;
  const input = search.get('input');
  return input === null || input === '' ? undefined : parseJson(input, 'The parameter input');
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new ProblemError('bad-request', 'The path of this request cannot be decoded.');
  }
}

type Call<Ctx> = {
  request: FastifyRequest;
  reply: FastifyReply;
  mount: Mount<Ctx>;
  readInput: TrpcCall['readInput'];
};

type Answer = { status: number; body: object };

const METHODS = { query: 'GET', mutation: 'POST' };

async function callOne<Ctx>(
  name: string,
  index: number,
  { request, reply, mount, readInput }: Call<Ctx>,
): Promise<Answer> {
  try {
    const procedure = mount.procedures.get(name);
    if (!procedure) throw new ProblemError('not-found', 'There is no such procedure.');
    const method = METHODS[procedure.type];
    if (request.method !== method) {
      reply.header('allow', method);
      throw new ProblemError('method-not-allowed', 'Send queries by GET and mutations by POST.');
    }
    const data = await procedure.run(mount.ctx, { path: name, readInput: () => readInput(index) });
    return { status: 200, body: { result: { data } } };
  } catch (error) {
    return refusal(reply, error, name);
  }
}

function refusal(reply: FastifyReply, thrown: unknown, name?: string): Answer {
  const problem = describeProblem(thrown);
  noteProblem(reply, problem);
  return { status: problem.status, body: { error: trpcErrorShape(problem, reply.request.id, name) } };
}

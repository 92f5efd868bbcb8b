import type { FastifyError, FastifyReply } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { isFault, problemOf } from '../api/problem.ts';
import { isTurnedAway } from './gate.ts';

/** Answers with `application/problem+json`, whatever was thrown; faults of ours are logged with their cause. */
export function sendProblem(reply: FastifyReply, thrown: unknown): FastifyReply {
  const problem = describeProblem(thrown);
  noteProblem(reply, problem);
  return (
    reply
      .code(problem.status)
      .header('content-type', 'application/problem+json')
      // As bytes, because Fastify adds a charset to text, and JSON has none.
      .send(Buffer.from(JSON.stringify(problem.toProblem(reply.request.id))))
  );
}

/** What a caller may be told of whatever was thrown, Fastify's own errors included. */
export function describeProblem(thrown: unknown): ProblemError {
  return fromFastify(thrown) ?? problemOf(thrown);
}

/** Sets the headers that go with a problem, over REST and tRPC alike, and logs it if it is a fault of ours. */
export function noteProblem(reply: FastifyReply, problem: ProblemError): void {
  const { retryAfterSeconds, cause } = problem.options;
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer realm="driftstack"');
  if (retryAfterSeconds !== undefined) reply.header('retry-after', retryAfterSeconds);
  // Being turned away has no cause to be looked for; the line about the request says it.
  if (isFault(problem) && !isTurnedAway(reply.request)) {
    const { log, id } = reply.request;
    log.error({ request_id: id, status: problem.status, err: cause ?? problem }, problem.message);
  }
}

/** What Fastify itself refuses has a code of its own and a message that names its insides. */
function fromFastify(thrown: unknown): ProblemError | null {
  if (!isFastifyError(thrown)) return null;
  switch (thrown.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new ProblemError('payload-too-large', 'The body is too large.');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new ProblemError('unsupported-media-type', 'Send the body as application/json.');
    case 'FST_ERR_BAD_URL':
      return new ProblemError('bad-request', 'The path of this request cannot be decoded.');
    default:
      return thrown.statusCode !== undefined && thrown.statusCode < 500
        ? new ProblemError('bad-request', 'This request cannot be read.')
        : null;
  }
}

function isFastifyError(thrown: unknown): thrown is FastifyError {
  return (
    thrown instanceof Error &&
    'code' in thrown &&
    typeof thrown.code === 'string' &&
    /^FST_/.test(thrown.code)
  );
}

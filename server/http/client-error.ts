import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { ProblemError } from '../../shared/errors.ts';

/**
 * Answers bytes that are not an HTTP request, or not a whole one in time, and closes the connection. There is
 * no request here, only the socket, so the answer is written by hand.
 */
export function answerClientError(error: Error, socket: Socket, instance: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { status, headers, body } = answerOf(explain('code' in error ? error.code : undefined), instance);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, '', body].join('\r\n'));
}

/** Answers a request that expects something else than to be told to go on; Node would send 417 and no word. */
export function answerExpectation(
  _request: IncomingMessage,
  response: ServerResponse,
  instance: string,
): void {
  const problem = new ProblemError('expectation-failed', 'The Expect header may ask for 100-continue alone.');
  const { status, headers, body } = answerOf(problem, instance);
  response.writeHead(status, headers).end(body);
}

function answerOf(problem: ProblemError, instance: string) {
  const body = JSON.stringify(problem.toProblem(instance));
  const headers = {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    'x-request-id': instance,
    connection: 'close',
  };
  return { status: problem.status, headers, body };
}

function explain(code: unknown): ProblemError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ProblemError('request-timeout', 'The request was not complete in time.');
    case 'HPE_HEADER_OVERFLOW':
      return new ProblemError('headers-too-large', 'The headers of the request are too large.');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new ProblemError('payload-too-large', 'The extensions of the chunks are too large.');
    default:
      return new ProblemError('bad-request', 'This is not a well-formed HTTP request.');
  }
}

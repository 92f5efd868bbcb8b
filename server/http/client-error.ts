import { STATUS_CODES } from 'node:http';
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
  const [status, detail] = explain('code' in error ? error.code : undefined);
  const body = JSON.stringify({ ...new ProblemError('bad-request', detail).toProblem(instance), status });
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'content-type: application/problem+json',
      `content-length: ${Buffer.byteLength(body)}`,
      `x-request-id: ${instance}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  );
}

function explain(code: unknown): [number, string] {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return [408, 'The request was not complete in time.'];
    case 'HPE_HEADER_OVERFLOW':
      return [431, 'The headers of the request are too large.'];
    default:
      return [400, 'This is not a well-formed HTTP request.'];
  }
}

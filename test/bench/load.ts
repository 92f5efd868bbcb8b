import { connect, type Socket } from 'node:net';

export type LoadOptions = {
  readonly url: string;
  readonly connections: number;
  /** The bytes of the next request, or null when there are no more. Never asked again after null. */
  readonly next: () => Buffer | null;
  /** What an answer must begin with; anything else ends the run with an error. */
  readonly status?: 200 | 201;
};

export type LoadResult = {
  readonly requests: number;
  readonly perSecond: number;
  readonly latenciesMs: readonly number[];
};

/**
 * Sends requests over keep-alive connections, one at a time on each, and waits for every answer. Bytes are made
 * beforehand and answers only counted, because the generator shares the machine with what it measures. Throws
 * when an answer has another status: a figure over failed requests would mean nothing.
 */
export async function load({ url, connections, next, status = 200 }: LoadOptions): Promise<LoadResult> {
  const { hostname, port } = new URL(url);
  const latenciesMs: number[] = [];
  const expected = `HTTP/1.1 ${status} `;
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: connections }, () =>
      converse(connect({ host: hostname, port: Number(port), noDelay: true }), next, expected, latenciesMs),
    ),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  return { requests: latenciesMs.length, perSecond: latenciesMs.length / seconds, latenciesMs };
}

/** Goes round a list of requests until the time is over. */
export function forSeconds(seconds: number, requests: readonly Buffer[]): () => Buffer | null {
  const endsAt = performance.now() + seconds * 1_000;
  let index = 0;
  return () => {
    if (performance.now() >= endsAt) return null;
    index = (index + 1) % requests.length;
    return requests[index] ?? null;
  };
}

/** Sends so many requests, going round a list. */
export function times(count: number, requests: readonly Buffer[]): () => Buffer | null {
  let sent = 0;
  return () => (sent < count ? (requests[sent++ % requests.length] ?? null) : null);
}

export type RequestParts = {
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** A request as bytes. */
export function requestBytes({ method = 'GET', path, headers, body = '' }: RequestParts): Buffer {
  const length = method === 'POST' ? { 'content-length': String(Buffer.byteLength(body)) } : {};
  const lines = Object.entries({ host: '127.0.0.1', ...headers, ...length }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
}

/** How many bytes the first answer in `bytes` takes; null while it is not complete. */
export function answerLength(bytes: Buffer): number | null {
  const headersEnd = bytes.indexOf('\r\n\r\n');
  if (headersEnd === -1) return null;
  const headers = bytes.toString('latin1', 0, headersEnd + 2);
  if (CHUNKED.test(headers)) {
    // Nobody here sends trailers, and no body is a zero on a line of its own.
    const last = bytes.indexOf('\r\n0\r\n\r\n', headersEnd + 2);
    return last === -1 ? null : last + '\r\n0\r\n\r\n'.length;
  }
  const length = CONTENT_LENGTH.exec(headers)?.[1];
  if (length === undefined) throw new Error('an answer came without a content-length');
  const total = headersEnd + 4 + Number(length);
  return bytes.length >= total ? total : null;
}

const CHUNKED = /\r\ntransfer-encoding: chunked\r\n/i;
const CONTENT_LENGTH = /\r\ncontent-length: (\d+)\r\n/i;

function converse(
  socket: Socket,
  next: () => Buffer | null,
  expected: string,
  latenciesMs: number[],
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let received: Buffer = Buffer.alloc(0);
  let sentAt = 0;
  const send = (): void => {
    const bytes = next();
    if (bytes === null) {
      socket.destroy();
      resolve();
      return;
    }
    sentAt = performance.now();
    socket.write(bytes);
  };
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    try {
      const length = answerLength(received);
      if (length === null) return;
      if (!received.toString('latin1', 0, expected.length).startsWith(expected))
        throw new Error(`an answer was not ${expected.trim()}: ${received.toString('utf8').slice(0, 2_000)}`);
      latenciesMs.push(performance.now() - sentAt);
      received = received.subarray(length);
      send();
    } catch (error) {
      socket.destroy();
      reject(error);
    }
  });
  socket.on('connect', send);
  socket.on('error', reject);
  socket.on('end', () => reject(new Error('the server closed a connection under load')));
  return promise;
}

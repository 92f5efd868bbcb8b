import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { connect as connectPlain } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectSecure } from 'node:tls';
import type { Destination } from './destination.ts';

/** Opens the connection to a checked address: the only way this room reaches the network. */
export type Connect = (to: {
  readonly address: string;
  readonly port: number;
  /** For TLS: the certificate must be for this name. Null without TLS. */
  readonly servername: string | null;
}) => Duplex;

export type PostResult = {
  /** Null where there was no whole answer. */
  readonly status: number | null;
  /** The beginning of what was answered. */
  readonly excerpt: string | null;
  readonly retryAfter: string | null;
  /** Why there was no whole answer. */
  readonly error: string | null;
  readonly durationMs: number;
};

export type Post = (
  to: Destination,
  headers: Readonly<Record<string, string>>,
  body: string,
) => Promise<PostResult>;

/** How long an endpoint may take to begin its answer, and everything together. */
const ANSWER_MS = 10_000;
const WHOLE_MS = 15_000;
const MAX_READ_BYTES = 64 * 1024;
const EXCERPT_BYTES = 4 * 1024;
const IDLE_MS = 4_000;

export type Poster = {
  readonly post: Post;
  /** Closes the connections that were kept for the next time. */
  close(): void;
};

/**
 * Sends bodies to strangers: to the checked address and nowhere else, no redirect is followed, no proxy is asked,
 * and of an answer no more than 64 KiB is read. Never throws: whatever happens is a result.
 */
export function createPoster(connect: Connect = connectDirectly): Poster {
  const options = { keepAlive: true, maxFreeSockets: 4, timeout: IDLE_MS, scheduling: 'lifo' } as const;
  const secure = new SecureAgent(options);
  const plain = new PlainAgent(options);
  // The agents keep connections apart by address, port and name, so one is only used again for its own endpoint.
  secure.createConnection = (to) =>
    connect({
      address: to.host ?? '',
      port: Number(to.port),
      servername: Reflect.get(to, 'servername') ?? '',
    });
  plain.createConnection = (to) =>
    connect({ address: to.host ?? '', port: Number(to.port), servername: null });
  return {
    async post(to, headers, body) {
      const started = performance.now();
      const first = await exchange({ secure, plain }, to, headers, body);
      // A connection that was kept may have been closed by the other side just now: nothing was read of this one.
      const result = first === 'stale' ? await exchange({ secure, plain }, to, headers, body) : first;
      const durationMs = Math.round(performance.now() - started);
      return result === 'stale' ? { ...FAILED, durationMs } : { ...result, durationMs };
    },
    close() {
      secure.destroy();
      plain.destroy();
    },
  };
}

const connectDirectly: Connect = ({ address, port, servername }) =>
  servername === null
    ? connectPlain({ host: address, port })
    : connectSecure({ host: address, port, servername, ALPNProtocols: ['http/1.1'] });

/** One sentence for refused, unreachable, reset and late: ports inside a network are not to be found out by it. */
const FAILED = {
  status: null,
  excerpt: null,
  retryAfter: null,
  error: 'There was no whole answer in time.',
} as const;

type Answer = Omit<PostResult, 'durationMs'>;

function exchange(
  agents: { secure: SecureAgent; plain: PlainAgent },
  to: Destination,
  headers: Readonly<Record<string, string>>,
  body: string,
): Promise<Answer | 'stale'> {
  const { promise, resolve } = Promise.withResolvers<Answer | 'stale'>();
  const options = {
    method: 'POST',
    host: to.address,
    port: to.port,
    path: `${to.url.pathname}${to.url.search}`,
    setHost: false,
    headers: {
      host: to.url.host,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'user-agent': 'Driftstack-Webhooks/1',
      ...headers,
    },
  };
  const request = to.secure
    ? secureRequest({ ...options, agent: agents.secure, servername: to.hostname })
    : plainRequest({ ...options, agent: agents.plain });
  const give = (answer: Answer | 'stale'): void => {
    clearTimeout(answering);
    clearTimeout(whole);
    resolve(answer);
  };
  const end = (): void => {
    give(FAILED);
    request.destroy();
  };
  let answered = false;
  const answering = setTimeout(end, ANSWER_MS);
  const whole = setTimeout(end, WHOLE_MS);
  request.on('response', (response) => {
    answered = true;
    clearTimeout(answering);
    readAnswer(response, give);
  });
  request.on('error', () => give(request.reusedSocket && !answered ? 'stale' : FAILED));
  request.on('close', () => give(FAILED));
  request.end(body);
  return promise;
}

function readAnswer(response: IncomingMessage, give: (answer: Answer) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const answered = (): void => {
    const retryAfter = response.headers['retry-after'] ?? null;
    give({ status: response.statusCode ?? null, excerpt: excerptOf(chunks), retryAfter, error: null });
  };
  response.on('data', (chunk: Buffer) => {
    if (bytes < EXCERPT_BYTES) chunks.push(chunk.subarray(0, EXCERPT_BYTES - bytes));
    bytes += chunk.length;
    if (bytes <= MAX_READ_BYTES) return;
    // Enough to know what it said; the rest is nobody's to send us.
    answered();
    response.destroy();
  });
  response.on('end', answered);
  response.on('error', () => give(FAILED));
  response.on('aborted', () => give(FAILED));
}

/** Text that PostgreSQL can keep: what is no UTF-8 becomes a mark, and NUL too. */
function excerptOf(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('utf8').replaceAll('\0', '\uFFFD');
}

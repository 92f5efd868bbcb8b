import { connect, createServer } from 'node:net';

export type Counted = {
  /** From `begin` to `commit` or `rollback`. */
  transactions: number;
  /** Statements inside those, `begin` and `commit` among them: each is a round trip. */
  statementsInside: number;
  statementsOutside: number;
};

export type CountingProxy = {
  /** The same database, through the proxy. */
  readonly url: string;
  /** What was sent since the last time it was asked. */
  take(): Counted;
  close(): Promise<void>;
};

/** Stands between a client and PostgreSQL and counts what the client sends. */
export async function startCountingProxy(target: string): Promise<CountingProxy> {
  const { hostname, port } = new URL(target);
  let counted = nothing();
  const server = createServer((inward) => {
    const outward = connect({ host: hostname, port: Number(port) });
    inward.on(
      'data',
      statementReader((text) => count(text)),
    );
    inward.pipe(outward).pipe(inward);
    let isInside = false;
    const count = (text: string | null): void => {
      const begins = text !== null && /^\s*(begin|start transaction)\b/i.test(text);
      if (begins) counted.transactions += 1;
      if (isInside || begins) counted.statementsInside += 1;
      else counted.statementsOutside += 1;
      if (begins) isInside = true;
      // A rollback to a savepoint stays inside; nobody here uses one.
      if (text !== null && /^\s*(commit|rollback)\b/i.test(text)) isInside = false;
    };
    inward.on('error', () => outward.destroy());
    outward.on('error', () => inward.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  const url = new URL(target);
  url.port = String(address.port);
  return {
    url: url.href,
    take() {
      const taken = counted;
      counted = nothing();
      return taken;
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

const nothing = (): Counted => ({ transactions: 0, statementsInside: 0, statementsOutside: 0 });

/**
 * Reads a client's side of PostgreSQL's protocol and reports each statement that is run: with its text when it is
 * a simple query, null when it is a prepared one.
 */
export function statementReader(onStatement: (text: string | null) => void): (chunk: Buffer) => void {
  let received: Buffer = Buffer.alloc(0);
  let isStarted = false;
  return (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    for (;;) {
      // The first message alone has no type in front of its length.
      const start = isStarted ? 1 : 0;
      if (received.length < start + 4) return;
      const end = start + received.readInt32BE(start);
      if (received.length < end) return;
      const type = isStarted ? String.fromCharCode(received.readUInt8(0)) : 'startup';
      if (type === 'Q') onStatement(received.toString('utf8', start + 4, end - 1));
      if (type === 'E') onStatement(null);
      received = received.subarray(end);
      isStarted = true;
    }
  };
}

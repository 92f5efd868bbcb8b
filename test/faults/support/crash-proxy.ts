import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export type CrashPoint = {
  /** Counts from 1 over all connections, in the order in which the messages came. */
  at: number;
  /** `before` the server gets the message, or `after` it has carried it out, with its answer lost. */
  when: 'before' | 'after';
};

export type CrashProxy = {
  /** The same database, through the proxy. */
  readonly url: string;
  /** How many messages there were so far. */
  count(): number;
  /** After which of them the server was in no transaction: what it had done was there to stay. */
  settled(): number[];
  /** Crashes at the so-many-th message from now, before it unless told otherwise. */
  arm(messages: number, when?: CrashPoint['when']): void;
  /** Whether the crash point was reached. */
  crashed(): boolean;
  close(): Promise<void>;
};

type Options = {
  target: string;
  /** `statement` counts what the server is asked to do; `message` each message of the protocol, parts of one statement. */
  unit: 'statement' | 'message';
  point?: CrashPoint | null;
  /** What dies at the crash point, at once; the connections break in any case and new ones are refused. */
  onCrash?: () => void;
};

/**
 * Stands between a process and PostgreSQL, counts what the process sends, and at one message ends it all. The
 * start-up of a connection and its end are not counted.
 */
export async function startCrashProxy({ target, unit, onCrash, ...options }: Options): Promise<CrashProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let point = options.point ?? null;
  let count = 0;
  let crashed = false;
  const settled = new Set<number>();
  const crash = () => {
    if (crashed) return;
    crashed = true;
    onCrash?.();
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((inward) => {
    if (crashed) return void inward.destroy();
    const outward = connect({ host: hostname, port: Number(port) });
    for (const socket of [inward, outward]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    inward.on('close', () => outward.end());
    outward.on('close', () => inward.destroy());
    let dropsAnswers = false;
    outward.on(
      'data',
      messages('server', (type, bytes) => {
        // Ready for a query, and idle.
        if (type === 'Z' && bytes.at(-1) === IDLE && count > 0) settled.add(count);
        if (!dropsAnswers) inward.write(bytes);
        else if (type === 'Z') crash();
      }),
    );
    inward.on(
      'data',
      messages('client', (type, bytes) => {
        if (crashed || dropsAnswers) return;
        if (counts(type, unit)) {
          count += 1;
          if (point?.at === count) {
            if (point.when === 'before') return void stop(outward, crash);
            dropsAnswers = true;
          }
        }
        outward.write(bytes);
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(target);
  // Listening on a port, it has the address of one.
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    count: () => count,
    settled: () => [...settled],
    arm: (messages, when = 'before') => {
      point = { at: count + messages, when };
    },
    crashed: () => crashed,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

const IDLE = 'I'.charCodeAt(0);

/** What was sent before the message has arrived; from then on nothing does. */
function stop(outward: Socket, crash: () => void): void {
  outward.pause();
  outward.end(crash);
}

/** A simple query, or the sync that makes the server carry out what was prepared before it. */
function counts(type: string, unit: Options['unit']): boolean {
  if (type === 'startup' || type === 'p' || type === 'X') return false;
  return unit === 'message' || type === 'Q' || type === 'S';
}

/** Cuts one side of PostgreSQL's protocol into its messages. */
function messages(
  side: 'client' | 'server',
  onMessage: (type: string, bytes: Buffer) => void,
): (chunk: Buffer) => void {
  let received: Buffer = Buffer.alloc(0);
  let isStarted = side === 'server';
  return (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    for (;;) {
      // A client's first message alone has no type in front of its length.
      const start = isStarted ? 1 : 0;
      if (received.length < start + 4) return;
      const end = start + received.readInt32BE(start);
      if (received.length < end) return;
      const type = isStarted ? String.fromCharCode(received.readUInt8(0)) : 'startup';
      const message = received.subarray(0, end);
      received = received.subarray(end);
      isStarted = true;
      onMessage(type, message);
    }
  };
}

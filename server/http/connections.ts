import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** How much the connections of one server may ask for. */
export type ConnectionBounds = {
  /** Open at a time, in all and from one address. */
  readonly inAll: number;
  readonly ofAddress: number;
  /** Requests of one connection that wait for the one before them. */
  readonly waiting: number;
};

/**
 * A connection that is open costs some 20 kB. One address may have half of them: behind a proxy all callers come from
 * few. A client that sends the next request before it has its answer gets the answers one after the other.
 */
export const CONNECTIONS: ConnectionBounds = { inAll: 4_000, ofAddress: 2_000, waiting: 32 };

type Exchange = readonly [IncomingMessage, ServerResponse];

/**
 * Hands a connection's requests on one after the other, as their answers have to leave. However many come at once,
 * one connection never has more than one under way; where more than `most` wait, it is closed.
 */
export function oneByOne(handler: RequestListener, most: number): RequestListener {
  const queues = new WeakMap<Socket, Exchange[]>();

  const begin = (socket: Socket, [request, response]: Exchange): void => {
    response.once('close', () => {
      const next = socket.destroyed ? undefined : queues.get(socket)?.shift();
      if (next) begin(socket, next);
      else queues.delete(socket);
    });
    handler(request, response);
  };
  return (request, response) => {
    const { socket } = request;
    const queue = queues.get(socket);
    if (!queue) {
      queues.set(socket, []);
      begin(socket, [request, response]);
    } else if (queue.length < most) {
      queue.push([request, response]);
    } else {
      socket.destroy();
    }
  };
}

/** Closes connections beyond the bounds at once, and tells of each. */
export function boundConnections(
  server: Server,
  { inAll, ofAddress }: ConnectionBounds,
  onRefused: () => void,
): void {
  const open = new Map<string, number>();
  server.maxConnections = inAll;
  server.on('drop', onRefused);
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const count = (open.get(address) ?? 0) + 1;
    open.set(address, count);
    socket.once('close', () => {
      const left = (open.get(address) ?? 1) - 1;
      if (left > 0) open.set(address, left);
      else open.delete(address);
    });
    if (count <= ofAddress) return;
    socket.destroy();
    onRefused();
  });
}

import { connect } from 'node:net';

/** Sends bytes to a server and collects what comes back until it closes, or until nothing came for a while. */
export const sendRaw = (url: string, bytes: string, { quietMs = 500 } = {}): Promise<string> => {
  const { hostname, port } = new URL(url);
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host: hostname, port: Number(port) });
  let answer = '';
  socket.setTimeout(quietMs, () => socket.destroy());
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1');
  });
  // A reset is an answer too.
  socket.on('error', () => socket.destroy());
  socket.on('close', () => resolve(answer));
  socket.write(bytes);
  return promise;
};

import { connect } from 'node:net';

/** What came back: null where the connection was closed without an answer. */
export type RawAnswer = { status: number; type: string; body: string } | null;

const PATIENCE_MS = 10_000;

/**
 * Sends exactly these bytes and reads one answer. With `isAll` it says that nothing more comes, so that what is no
 * whole request by then never will be one; a server gives up an answer under way for it.
 */
export async function rawCall(url: string, bytes: string, { isAll = false } = {}): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  const chunks: Buffer[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.setTimeout(PATIENCE_MS, () => {
    socket.destroy();
    reject(new Error(`no answer to ${JSON.stringify(bytes.slice(0, 500))}`));
  });
  socket.on('data', (chunk) => {
    chunks.push(chunk);
    if (isWhole(Buffer.concat(chunks))) socket.destroy();
  });
  // A reset after an answer is how an unread body ends.
  socket.on('error', () => socket.destroy());
  socket.on('close', () => resolve());
  if (isAll) socket.end(bytes, 'latin1');
  else socket.write(bytes, 'latin1');
  await promise;
  return parse(Buffer.concat(chunks));
}

function split(all: Buffer): { head: string; body: Buffer } | null {
  const toldToGoOn = 'HTTP/1.1 100 Continue\r\n\r\n';
  const answer = all.subarray(all.indexOf(toldToGoOn) === 0 ? toldToGoOn.length : 0);
  const end = answer.indexOf('\r\n\r\n');
  if (end < 0) return null;
  return { head: answer.subarray(0, end).toString('latin1'), body: answer.subarray(end + 4) };
}

function isWhole(answer: Buffer): boolean {
  const parts = split(answer);
  if (!parts) return false;
  const length = headerOf(parts.head, 'content-length');
  if (length !== null) return parts.body.length >= Number(length);
  return /^HTTP\/1\.[01] (204|304) /.test(parts.head) || parts.body.toString('latin1').endsWith('0\r\n\r\n');
}

function parse(answer: Buffer): RawAnswer {
  const parts = split(answer);
  if (!parts) return null;
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(parts.head)?.[1]);
  return { status, type: headerOf(parts.head, 'content-type') ?? '', body: parts.body.toString('utf8') };
}

function headerOf(head: string, name: string): string | null {
  return new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1] ?? null;
}

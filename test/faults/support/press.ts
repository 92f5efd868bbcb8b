import { connect, type Socket } from 'node:net';
import { answerLength } from '../../bench/load.ts';
import type { Answer } from './callers.ts';

/**
 * Lets so many callers ask for the same again and again, each as soon as it is answered, until the time is over.
 * Over sockets and without a client library: a library's own work would be taken for the service's delay.
 */
export async function press(
  url: string,
  request: Buffer,
  { callers, seconds }: { callers: number; seconds: number },
): Promise<Answer[]> {
  const { hostname, port } = new URL(url);
  const answers: Answer[] = [];
  const endsAt = performance.now() + seconds * 1_000;
  await Promise.all(
    Array.from({ length: callers }, () =>
      ask(
        connect({ host: hostname, port: Number(port), noDelay: true }),
        () => (performance.now() < endsAt ? request : null),
        answers,
      ),
    ),
  );
  return answers;
}

function ask(socket: Socket, next: () => Buffer | null, answers: Answer[]): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let received: Buffer = Buffer.alloc(0);
  let sentAt = 0;
  const send = (): void => {
    const bytes = next();
    sentAt = performance.now();
    if (bytes !== null) socket.write(bytes);
    else {
      socket.destroy();
      resolve();
    }
  };
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const length = answerLength(received);
    if (length === null) return;
    const head = received.toString('latin1', 0, length);
    const status = Number(head.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));
    const retryAfter = status === 200 ? null : (RETRY_AFTER.exec(head)?.[1] ?? null);
    answers.push({ status, retryAfter, tookMs: performance.now() - sentAt });
    received = received.subarray(length);
    send();
  });
  socket.on('connect', send);
  socket.on('error', reject);
  socket.on('end', () => reject(new Error('the service closed a connection under load')));
  return promise;
}

const RETRY_AFTER = /\r\nretry-after: (\S+)\r\n/i;

import { Transform } from 'node:stream';
import type { FastifyReply, preParsingHookHandler } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';

/** The bytes of bodies that a process holds at a time: some 300 full ones of the API, thousands of Stripe's. */
export const MOST_BODY_BYTES = 32 * 1024 * 1024;

type Arriving = { bytes: number; readonly stream: Transform; readonly reply: FastifyReply };

/**
 * Counts the bytes of all bodies, from their first byte until their answer has left. When there are more than `most`,
 * the one that has been on its way longest is told to come back: whoever sends in one go is never that one, and
 * whoever holds a body open holds up nobody. What ends with the caller's connection is the caller's doing, and is
 * named so here, where it is known: its code alone would pass for the database's.
 */
export function countBodies(most: number): preParsingHookHandler {
  const arriving = new Set<Arriving>();
  let held = 0;

  const giveBack = (body: Arriving): void => {
    arriving.delete(body);
    held -= body.bytes;
    body.bytes = 0;
  };
  const makeRoom = (): void => {
    for (const body of arriving) {
      if (held <= most) return;
      giveBack(body);
      body.reply.header('connection', 'close');
      body.stream.destroy(tooMuch());
    }
  };
  return (request, reply, payload, done) => {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    if (encoding === undefined && (length === undefined || length === '0')) return done(null, payload);
    const stream = new Transform({
      transform(chunk: Buffer, _encoding, pass) {
        held += chunk.length;
        body.bytes += chunk.length;
        if (held > most) makeRoom();
        pass(null, chunk);
      },
      flush(pass) {
        arriving.delete(body);
        pass();
      },
    });
    const body: Arriving = { bytes: 0, stream, reply };
    arriving.add(body);
    // Whoever has stopped listening does not want to know.
    stream.on('error', () => {});
    reply.raw.once('close', () => giveBack(body));
    payload.once('error', () => stream.destroy(cutOff()));
    payload.once('close', () => {
      if (!request.raw.complete) stream.destroy(cutOff());
    });
    done(null, payload.pipe(stream));
  };
}

const cutOff = () => new ProblemError('bad-request', 'The body was cut off before its end.');

const tooMuch = () =>
  new ProblemError(
    'internal',
    'More is on its way to this service than it can hold. Please send the whole body in one go, in a second.',
    { status: 503, retryAfterSeconds: 1 },
  );

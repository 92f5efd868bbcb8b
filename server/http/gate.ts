import type { FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** How many requests of each kind are worked on at a time. */
export type InFlight = Readonly<Record<'reading' | 'minting' | 'deliveries' | 'pages', number>>;

/**
 * Requests under way are those served in a second times the seconds each takes, so these bounds are delays: 64
 * readers at the 5,000 a second that one process answers wait 13 ms for one another, and less than a second even
 * when it answers no more than 70. Minting waits for Stripe, up to 8 s a call at Stripe's 100 calls a second and
 * three calls each: about 260. A delivery that is turned away comes back after minutes or hours, so more of them
 * may wait: at the measured 500 a second half a second. A page is served from memory, and is under way until its
 * reader has all of it: what it takes is the room in the socket.
 */
export const MOST_IN_FLIGHT: InFlight = { reading: 64, minting: 256, deliveries: 256, pages: 64 };

/**
 * How many requests are turned away at each turn of the event loop. Callers who come back at once would else
 * take up each turn, in which a connection to the database brings one answer. Measured with 600 of them: all at
 * each turn left 130 to 230 answers a second after up to 4 s; 16 of them half of what 50 callers get; 4 of them
 * four fifths, the slowest hundredth after 50 ms, and those turned away waited 230 ms; 1 of them nine tenths
 * and 800 ms.
 */
const REFUSALS_PER_TURN = 4;

const turnedAway = new WeakSet<FastifyRequest>();

/** Whether a gate has turned this request away. */
export const isTurnedAway = (request: FastifyRequest): boolean => turnedAway.has(request);

/**
 * Lets at most `most` requests be worked on at a time and answers 503 with Retry-After to the rest at once: a
 * short answer to some is worth more than a late one to all. Bodies still arriving do not count, so that slow
 * clients take nobody's place.
 */
export function createGate(most: number): (handler: Handler) => Handler {
  const turnToRefuse = createTurns(REFUSALS_PER_TURN);
  let inFlight = 0;
  return (handler) => async (request, reply) => {
    if (inFlight >= most) {
      turnedAway.add(request);
      await turnToRefuse();
      throw new ProblemError(
        'internal',
        'This service has more to do than it can. Please try again shortly.',
        {
          status: 503,
          retryAfterSeconds: 1,
        },
      );
    }
    inFlight += 1;
    try {
      return await handler(request, reply);
    } finally {
      inFlight -= 1;
    }
  };
}

/** Lets so many through at each turn of the event loop, in the order they came. */
function createTurns(atEach: number): () => Promise<void> {
  const queue: (() => void)[] = [];
  const next = (): void => {
    for (const pass of queue.splice(0, atEach)) pass();
    if (queue.length > 0) setImmediate(next);
  };
  return () =>
    new Promise((resolve) => {
      if (queue.push(resolve) === 1) setImmediate(next);
    });
}

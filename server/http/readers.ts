import { once } from 'node:events';
import type { FastifyReply } from 'fastify';

/** Whoever takes longer than this to read an answer has no right to the place any more, once others wait for it. */
const READING_MS = 3_000;

export type Readers = {
  /** Cuts off the one who has been reading longest, and too long, where all places are taken. */
  makeRoom(): Promise<void>;
  /** An answer is under way until its reader has it, or has gone. */
  untilSent(reply: FastifyReply): Promise<void>;
};

/**
 * Who reads what is served from memory. Their number is bounded because sending costs time; but somebody who has
 * stopped reading costs none, and must not keep the place from those who would read.
 */
export function createReaders(most: number): Readers {
  /** Since when each reads; who came first stands first. */
  const reading = new Map<FastifyReply, number>();
  return {
    async makeRoom() {
      const [longest] = reading;
      if (reading.size < most || !longest) return;
      const [reply, sinceMs] = longest;
      if (performance.now() - sinceMs < READING_MS) return;
      reading.delete(reply);
      reply.raw.destroy();
      await closed(reply);
    },
    async untilSent(reply) {
      reading.set(reply, performance.now());
      await closed(reply);
      reading.delete(reply);
    },
  };
}

async function closed({ raw }: FastifyReply): Promise<void> {
  if (!raw.closed) await once(raw, 'close');
}

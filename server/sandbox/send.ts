import type { FastifyReply } from 'fastify';

/** What goes over the wire: the whole body is there before the first byte is sent. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Sends a complete answer as Stripe would. */
export function send(reply: FastifyReply, answer: Answer): FastifyReply {
  return reply
    .code(answer.status)
    .headers(answer.headers)
    .header('content-type', 'application/json')
    .send(answer.body);
}

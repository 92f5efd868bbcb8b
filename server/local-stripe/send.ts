import type { FastifyReply } from 'fastify';
import type { StripeError } from './errors.ts';

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

/** A refusal as the bytes Stripe sends. */
export function errorAnswer(error: StripeError): Answer {
  const { status, type, message, code, param, declineCode, extra } = error.fields;
  const body = {
    error: {
      ...(code === undefined
        ? {}
        : { code, doc_url: `https://stripe.com/docs/error-codes/${code.replaceAll('_', '-')}` }),
      ...(declineCode === undefined ? {} : { decline_code: declineCode }),
      message,
      ...(param === undefined ? {} : { param }),
      type,
      ...extra,
    },
  };
  return { status, body: JSON.stringify(body), headers: {} };
}

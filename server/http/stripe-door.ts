import type { FastifyInstance } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import type { Delivery } from '../stripe/inbox/intake.ts';
import { createGate } from './gate.ts';
import type { Metrics } from './metrics.ts';
import { headerValues } from './request-context.ts';

export type WebhookParts = {
  /** Verifies and stores a delivery; what it resolves to is acknowledged. */
  takeIn(delivery: Delivery): Promise<'stored' | 'duplicate' | 'ignored'>;
  readonly metrics: Metrics;
  readonly maxInFlight: number;
};

const MAX_BODY_BYTES = 1024 * 1024;

/**
 * Mounts `POST /webhooks/stripe`, outside tRPC.
 *
 * | a delivery that is                    | is answered                       |
 * |---------------------------------------|-----------------------------------|
 * | stored, a duplicate or of no interest | 200                               |
 * | not verified                          | 400                               |
 * | too large, no JSON                    | 413, 415                          |
 * | one of too many at once               | 503, and Stripe delivers it again |
 * | anything else                         | 5xx, and Stripe delivers it again |
 */
export function mountStripeDoor(app: FastifyInstance, { takeIn, metrics, maxInFlight }: WebhookParts): void {
  const gated = createGate(maxInFlight);
  app.addContentTypeParser(
    'application/json',
    // The signature covers the bytes as sent, so nothing may touch them.
    { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES },
    (_request, body, done) => done(null, body),
  );
  app.post(
    '/webhooks/stripe',
    {
      bodyLimit: MAX_BODY_BYTES,
      onError: async (_request, reply) => {
        if (reply.statusCode < 500) metrics.countEvent('refused');
      },
    },
    gated(async (request) => {
      const [signature, second] = headerValues(request, 'stripe-signature');
      if (second !== undefined) throw new ProblemError('bad-request', 'Send one Stripe-Signature header.');
      const rawBody = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const result = await takeIn({ rawBody, signature });
      metrics.countEvent(result);
      return { received: true };
    }),
  );
}

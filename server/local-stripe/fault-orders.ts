import { z } from 'zod';

/** How many times a fault strikes. */
export const times = z.int().min(1).max(10_000).default(1);
const apiFault = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('rate_limit'),
    retryAfterSeconds: z.int().min(0).nullable().default(null),
  }),
  z.strictObject({
    kind: z.literal('server_error'),
    status: z.literal([500, 502, 503, 504]).default(500),
    effect: z.boolean().default(false),
  }),
  z.strictObject({ kind: z.literal('timeout'), effect: z.boolean().default(false) }),
  z.strictObject({ kind: z.literal('hang_up'), effect: z.boolean().default(false) }),
  z.strictObject({ kind: z.literal('truncate') }),
  z.strictObject({ kind: z.literal('garbage') }),
  z.strictObject({ kind: z.literal('latency'), ms: z.int().min(0).max(120_000) }),
]);
const webhookFault = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('drop') }),
  z.strictObject({ kind: z.literal('duplicate') }),
  z.strictObject({ kind: z.literal('bad_signature') }),
  z.strictObject({ kind: z.literal('reorder') }),
  z.strictObject({ kind: z.literal('delay'), seconds: z.number().min(0).max(86_400) }),
]);
/** A fault as the hooks take it: what goes wrong, where, and how often. */
export const faultOrder = z.discriminatedUnion('on', [
  z.strictObject({
    on: z.literal('api'),
    fault: apiFault,
    method: z.enum(['GET', 'POST', 'DELETE']).nullable().default(null),
    path: z
      .string()
      .startsWith('/v1/', 'must begin with /v1/; mails are failed in the console')
      .nullable()
      .default(null),
    times,
  }),
  z.strictObject({
    on: z.literal('webhooks'),
    fault: webhookFault,
    types: z.array(z.string()).nullable().default(null),
    times,
  }),
]);

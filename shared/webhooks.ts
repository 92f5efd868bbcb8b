import { z } from 'zod';
import { EVENT_TYPES } from './events.ts';
import { nextCursor, pageFields } from './paging.ts';
import { wireTimeSchema } from './time.ts';

/** How many endpoints an account can have at a time. */
export const MAX_ENDPOINTS = 10;

/** The id of an endpoint, as every call about it names it. */
export const endpointId = z
  .string()
  .max(100)
  .meta({
    description: 'The id of the endpoint: `whk_` and a uuid.',
    examples: ['whk_01890a5d-ac96-774b-bcce-b302099a8057'],
  });
const url = z
  .string()
  .max(2048)
  .meta({
    description: 'Where events are sent: the https address of a public host.',
    examples: ['https://your.app/webhooks/driftstack'],
  });
const events = z
  .array(z.enum(EVENT_TYPES))
  .min(1)
  .max(10)
  .refine((types) => new Set(types).size === types.length, 'must not name an event twice')
  .meta({ description: 'The events to send.', examples: [['subscription.changed']] });
const description = z
  .string()
  .max(256)
  .nullable()
  .meta({ description: 'A note of yours, at most 256 characters.', examples: ['Production'] });
const moment = wireTimeSchema.nullable();
const secretPrefix = z.string().meta({
  description: 'The first characters of the secret that signs.',
  examples: ['whsec_ABCD'],
});

const endpointFields = {
  id: endpointId,
  url,
  secret_prefix: secretPrefix,
  prev_secret_prefix: z
    .string()
    .nullable()
    .meta({
      description: 'The first characters of the secret before the last rotation, while it signs as well.',
      examples: [null],
    }),
  rotation_grace_expires_at: moment.meta({
    description: 'Until when the secret before signs as well.',
    examples: [null],
  }),
  events,
  description,
  active: z.boolean().meta({
    description: 'Whether events are sent now. Those of a pause are kept and sent after it.',
    examples: [true],
  }),
  consecutive_failures: z
    .int()
    .min(0)
    .meta({ description: 'Failed tries since the last success.', examples: [0] }),
  last_success_at: moment.meta({ description: 'When a try last succeeded.', examples: [null] }),
  last_failure_at: moment.meta({ description: 'When a try last failed.', examples: [null] }),
  disabled_at: moment.meta({ description: 'Since when it is paused.', examples: [null] }),
  delivery_counts: z
    .strictObject({
      delivered: z
        .int()
        .min(0)
        .meta({ description: 'Deliveries that arrived.', examples: [0] }),
      failed: z
        .int()
        .min(0)
        .meta({ description: 'Deliveries that are to be tried again.', examples: [0] }),
      dlq: z
        .int()
        .min(0)
        .meta({ description: 'Deliveries given up.', examples: [0] }),
    })
    .meta({ description: 'How many deliveries stand where.' }),
  created_at: wireTimeSchema.meta({
    description: 'When it was created.',
    examples: ['2026-05-01T00:00:00Z'],
  }),
};

const EXAMPLE = {
  id: 'whk_01890a5d-ac96-774b-bcce-b302099a8057',
  url: 'https://your.app/webhooks/driftstack',
  secret_prefix: 'whsec_ABCD',
  prev_secret_prefix: null,
  rotation_grace_expires_at: null,
  events: ['subscription.changed' as const, 'subscription.cancelled' as const],
  description: 'Production',
  active: true,
  consecutive_failures: 0,
  last_success_at: null,
  last_failure_at: null,
  disabled_at: null,
  delivery_counts: { delivered: 0, failed: 0, dlq: 0 },
  created_at: '2026-05-01T00:00:00Z',
};

export const webhookEndpointSchema = z.strictObject(endpointFields).meta({
  id: 'WebhookEndpoint',
  description: 'An address that events are sent to.',
  examples: [EXAMPLE],
});
export type WebhookEndpoint = z.infer<typeof webhookEndpointSchema>;

/** The one answer that holds the secret in full. */
export const createdEndpointSchema = z
  .strictObject({
    ...endpointFields,
    secret: z.string().meta({
      description: 'Verifies what we send. It is shown this once and cannot be read again.',
      examples: ['whsec_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'],
    }),
  })
  .meta({
    id: 'WebhookEndpointWithSecret',
    description: 'An endpoint with its new secret, shown this once.',
    examples: [{ ...EXAMPLE, secret: 'whsec_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567' }],
  });
export type CreatedEndpoint = z.infer<typeof createdEndpointSchema>;

/** The input of `webhooks.create`. */
export const createEndpointInput = z.strictObject({ url, events, description: description.optional() }).meta({
  id: 'WebhookEndpointInput',
  description: 'Where to send which events.',
  examples: [{ url: EXAMPLE.url, events: EXAMPLE.events, description: EXAMPLE.description }],
});
export type CreateEndpointInput = z.infer<typeof createEndpointInput>;

/** The input of `webhooks.update`. */
export const updateEndpointInput = z
  .strictObject({
    id: endpointId,
    url: url.optional(),
    events: events.optional(),
    description: description.optional(),
    active: z
      .boolean()
      .optional()
      .meta({ description: '`false` pauses, `true` goes on.', examples: [false] }),
  })
  .meta({ id: 'WebhookEndpointPatch', description: 'What to change.', examples: [{ active: false }] });
export type UpdateEndpointInput = z.infer<typeof updateEndpointInput>;

/** The input of `webhooks.list`. */
export const endpointListInput = z
  .strictObject(pageFields)
  .prefault({})
  .meta({ description: 'Which part to read.' });
export type EndpointListInput = z.infer<typeof endpointListInput>;

/** The output of `webhooks.list`. */
export const endpointListResult = z
  .strictObject({ data: z.array(webhookEndpointSchema), next_cursor: nextCursor })
  .meta({
    id: 'WebhookEndpointPage',
    description: 'The endpoints of the account, newest first.',
    examples: [{ data: [EXAMPLE], next_cursor: null }],
  });
export type EndpointListResult = z.infer<typeof endpointListResult>;

/** The input of calls about one endpoint. */
export const endpointInput = z.strictObject({ id: endpointId }).meta({ description: 'Which endpoint.' });

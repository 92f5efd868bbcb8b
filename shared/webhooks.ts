import { z } from 'zod';
import { EVENT_TYPES } from './events.ts';
import { wireTimeSchema } from './time.ts';

/** Where a delivery stands; `failed` will be tried again, `dlq` (dead-letter queue) will not unless replayed. */
export const DELIVERY_STATUSES = ['pending', 'in_flight', 'delivered', 'failed', 'dlq'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** How many endpoints an account can have at a time. */
export const MAX_ENDPOINTS = 10;

const endpointId = z
  .string()
  .max(100)
  .meta({
    description: 'The id of the endpoint: `whk_` and a uuid.',
    examples: ['whk_01890a5d-ac96-774b-bcce-b302099a8057'],
  });
const deliveryId = z
  .string()
  .max(100)
  .meta({
    description: 'The id of the delivery: `wdl_` and a uuid.',
    examples: ['wdl_01890a5d-ac96-774b-bcce-b302099a8057'],
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
export const createEndpointInput = z
  .strictObject({ url, events, description: description.default(null) })
  .meta({
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

const page = {
  limit: z
    .int()
    .min(1)
    .max(100)
    .default(50)
    .meta({ description: 'How many to return, 1 to 100.', examples: [50] }),
  cursor: z
    .string()
    .min(1)
    .max(512)
    .meta({ description: 'The `next_cursor` of the page before. Its text means nothing to you.' })
    .optional(),
};
const nextCursor = z
  .string()
  .nullable()
  .meta({ description: 'Pass this as `cursor` for the next page; null on the last one.', examples: [null] });

/** The input of `webhooks.list`. */
export const endpointListInput = z
  .strictObject(page)
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
/** The input of calls about one delivery. */
export const deliveryInput = z.strictObject({ id: deliveryId }).meta({ description: 'Which delivery.' });

export const webhookDeliverySchema = z
  .strictObject({
    id: deliveryId,
    endpoint_id: endpointId,
    event_id: z.string().meta({
      description: 'The event it carries.',
      examples: ['evt_01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    event_type: z.string().meta({ description: 'Its type.', examples: ['subscription.changed'] }),
    status: z.enum(DELIVERY_STATUSES).meta({
      description:
        '`pending` and `in_flight` before the first answer, then `delivered`, or `failed` with another try to ' +
        'come, or `dlq` after the last one.',
      examples: ['delivered'],
    }),
    replay_of: z
      .string()
      .nullable()
      .meta({ description: 'The delivery it repeats.', examples: [null] }),
    attempts: z
      .int()
      .min(0)
      .meta({ description: 'How often it was tried.', examples: [1] }),
    next_attempt_at: moment.meta({ description: 'When it is tried next.', examples: [null] }),
    last_attempt_at: moment.meta({
      description: 'When it was last tried.',
      examples: ['2026-05-01T00:00:00Z'],
    }),
    duration_ms: z
      .int()
      .nullable()
      .meta({ description: 'How long the last try took.', examples: [112] }),
    response_status: z
      .int()
      .nullable()
      .meta({ description: 'What the last try was answered.', examples: [200] }),
    response_excerpt: z
      .string()
      .nullable()
      .meta({ description: 'The first 4 KiB of that answer.', examples: ['ok'] }),
    error: z
      .string()
      .nullable()
      .meta({ description: 'Why the last try did not succeed.', examples: [null] }),
    delivered_at: moment.meta({ description: 'When it arrived.', examples: ['2026-05-01T00:00:00Z'] }),
    created_at: wireTimeSchema.meta({
      description: 'When it was queued.',
      examples: ['2026-05-01T00:00:00Z'],
    }),
  })
  .meta({
    id: 'WebhookDelivery',
    description: 'One event on its way to one endpoint.',
    examples: [
      {
        id: 'wdl_01890a5d-ac96-774b-bcce-b302099a8057',
        endpoint_id: EXAMPLE.id,
        event_id: 'evt_01890a5d-ac96-774b-bcce-b302099a8057',
        event_type: 'subscription.changed',
        status: 'delivered',
        replay_of: null,
        attempts: 1,
        next_attempt_at: null,
        last_attempt_at: '2026-05-01T00:00:00Z',
        duration_ms: 112,
        response_status: 200,
        response_excerpt: 'ok',
        error: null,
        delivered_at: '2026-05-01T00:00:00Z',
        created_at: '2026-05-01T00:00:00Z',
      },
    ],
  });
export type WebhookDelivery = z.infer<typeof webhookDeliverySchema>;

/** The input of `webhooks.listDeliveries`. */
export const deliveryListInput = z
  .strictObject({
    id: endpointId,
    ...page,
    status: z
      .enum(DELIVERY_STATUSES)
      .meta({ description: 'Only deliveries that stand there.', examples: ['dlq'] })
      .optional(),
  })
  .meta({ description: 'Which deliveries of which endpoint.' });
export type DeliveryListInput = z.infer<typeof deliveryListInput>;

/** The output of `webhooks.listDeliveries`. */
export const deliveryListResult = z
  .strictObject({ data: z.array(webhookDeliverySchema), next_cursor: nextCursor })
  .meta({
    id: 'WebhookDeliveryPage',
    description: 'Deliveries of an endpoint, newest first.',
    examples: [{ data: [], next_cursor: null }],
  });
export type DeliveryListResult = z.infer<typeof deliveryListResult>;

/** The input of `webhooks.replay`. */
export const replayInput = z
  .strictObject({
    id: endpointId,
    after: z
      .int()
      .min(0)
      .meta({ description: 'Every event after this sequence number is sent again.', examples: [41] }),
  })
  .meta({ id: 'WebhookReplayInput', description: 'From where to repeat.', examples: [{ after: 41 }] });
export type ReplayInput = z.infer<typeof replayInput>;

/** The output of `webhooks.replay`. */
export const replayResult = z
  .strictObject({
    deliveries: z
      .int()
      .min(0)
      .meta({ description: 'How many deliveries were queued.', examples: [3] }),
  })
  .meta({ id: 'WebhookReplay', description: 'What will be repeated.', examples: [{ deliveries: 3 }] });
export type ReplayResult = z.infer<typeof replayResult>;

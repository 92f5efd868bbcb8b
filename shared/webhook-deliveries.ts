import { z } from 'zod';
import { nextCursor, pageFields } from './paging.ts';
import { wireTimeSchema } from './time.ts';
import { endpointId } from './webhooks.ts';

/** Where a delivery stands; `failed` will be tried again, `dlq` (dead-letter queue) will not unless replayed. */
export const DELIVERY_STATUSES = ['pending', 'in_flight', 'delivered', 'failed', 'dlq'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** How many events one call replays. */
export const REPLAY_PAGE = 500;
/** With so many deliveries waiting, an endpoint gets no tests and replays, only what is new. */
export const MAX_WAITING = 10_000;

const deliveryId = z
  .string()
  .max(100)
  .meta({
    description: 'The id of the delivery: `wdl_` and a uuid.',
    examples: ['wdl_01890a5d-ac96-774b-bcce-b302099a8057'],
  });
const moment = wireTimeSchema.nullable();
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
      .meta({ description: 'The delivery it repeats, which had arrived.', examples: [null] }),
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
        endpoint_id: 'whk_01890a5d-ac96-774b-bcce-b302099a8057',
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
    ...pageFields,
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
      .meta({
        description: `Events after this sequence number are sent again, the first ${REPLAY_PAGE} of them.`,
        examples: [41],
      }),
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
    next_after: z
      .int()
      .min(1)
      .nullable()
      .meta({ description: 'Give this as `after` to go on; null when nothing is left.', examples: [null] }),
  })
  .meta({
    id: 'WebhookReplay',
    description: 'What will be repeated.',
    examples: [{ deliveries: 3, next_after: null }],
  });
export type ReplayResult = z.infer<typeof replayResult>;
